"""Embeddings of what is seen and what is said, ready for a memory: one vector per picture kept, one per instruction."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Look, Needs, colour_cameras
from annotators.embeddings.encoders import ReadsTexts, SeesPictures, encoder_weights, open_encoder
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.spans import nothing, span_table
from schemas.annotation import NAME
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import I64
from transforms.noise import raw

F32 = npt.NDArray[np.float32]
NOTHING = "no_picture_and_no_text"


@dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """What to embed, and with what.

    Attributes:
        encoder: `default`, `transformers:FOLDER` or `module:function`; see `annotators.embeddings.encoders`.
        cameras: whose pictures; empty: all colour cameras that are not privileged.
        hz: at most this many pictures per second.
        side: pictures are scaled into a square of this side.
        texts: whether instructions are embedded too.
    """

    encoder: str = "default"
    cameras: tuple[str, ...] = ()
    hz: float = 1.0
    side: int = 224
    texts: bool = True

    def __post_init__(self) -> None:
        if not (self.hz > 0 and self.side >= 16):
            raise UsageError(f"hz={self.hz} must be positive and side={self.side} at least 16")


@dataclass(frozen=True, slots=True)
class Embedding:
    """Annotates pictures and instructions with vectors; see the module's text."""

    config: EmbeddingConfig = field(default_factory=EmbeddingConfig)

    name: ClassVar[str] = "embedding"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "frame"
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("kind", NAME),  # picture or text
            pa.field("said", pa.string()),  # the text embedded; null of a picture
            pa.field("vector", pa.list_(pa.float32())),  # of unit length
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `EmbeddingConfig`."""
        return cls(parse_settings(EmbeddingConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration and the encoder's weights."""
        return fingerprint(self.name, self.version, self.settings(), encoder_weights(self.config.encoder))

    def cameras(self, contract: Contract) -> tuple[str, ...]:
        """Return the cameras embedded; none where the encoder sees no pictures."""
        if not isinstance(open_encoder(self.config.encoder), SeesPictures):
            return ()
        return tuple(c.name for c in colour_cameras(contract, self.config.cameras))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the cameras it looks at and the instructions."""
        cameras = tuple(f"rgb:{c}" for c in self.cameras(contract))
        return (*cameras, "language") if contract.cameras or contract.features else ()

    def needs(self, contract: Contract) -> Needs:
        """Ask for a few pictures per second."""
        size = (self.config.side, self.config.side)
        return Needs(tuple(Look(c, size, self.config.hz) for c in self.cameras(contract)))

    def run(self, batch: Batch) -> pa.Table:
        """Embed every picture given and every stretch of one instruction; an episode with neither has a row that says so."""
        if not self.requires(batch.contract):
            return nothing(self, batch, NOTHING)
        encoder = open_encoder(self.config.encoder)
        found = [*self._pictures(batch, encoder), *self._texts(batch, encoder)]
        missing = set(range(len(batch.episodes))) - {self._episode(batch, r[0]) for r in found}
        if not found:
            return nothing(self, batch, NOTHING)
        found += [(int(batch.starts[e]), int(batch.starts[e + 1]), None, None, None, None) for e in missing]
        found.sort(key=lambda r: (r[0], r[2] or "", r[3] or ""))
        first, stop, cameras, said, vectors, kinds = zip(*found, strict=True)
        own = {
            "kind": pa.array(kinds, pa.string()).dictionary_encode(), "said": pa.array(said, pa.string()),
            "vector": pa.array([None if v is None else v.tolist() for v in vectors], pa.list_(pa.float32())),
        }  # fmt: skip
        reasons = [NOTHING if v is None else None for v in vectors]
        camera = pa.array(cameras, pa.string()).dictionary_encode()
        return span_table(self, batch, np.array(first, np.int64), np.array(stop, np.int64), reasons, own, camera=camera)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure how often the picture most like another episode's shows the same task, against shuffled vectors and the commonest task."""
        goal = "the nearest picture of another episode shows the same task more often than by chance"
        rows = [r for r in self.run(heldout).to_pylist() if r["valid"] and r["kind"] == "picture"]
        tasks = {
            e: str(heldout.steps.column("language")[int(s)]) for e, s in zip(heldout.episodes, heldout.starts[:-1], strict=True)
        }
        if len(set(tasks.values())) < 2 or not rows:
            return (not_measurable("task_at_1", "needs pictures of at least two instructions", goal),)
        return (_task_at_1(rows, tasks, heldout.episodes, goal),)

    def _pictures(self, batch: Batch, encoder: Any) -> list[Any]:
        rows: list[Any] = []
        for camera in self.cameras(batch.contract):
            for e, clip in enumerate(batch.clips.get(camera, ())):
                if not len(clip):
                    continue
                parts = [
                    encoder.pictures(clip.pictures[a : a + batch.at_once], batch.device)
                    for a in range(0, len(clip), batch.at_once)
                ]
                steps = np.append(clip.step, batch.starts[e + 1] - batch.starts[e])
                for i, vector in enumerate(np.concatenate(parts)):
                    first = int(batch.starts[e] + steps[i])
                    stop = int(batch.starts[e] + max(steps[i + 1], steps[i] + 1))
                    rows.append((first, stop, camera, None, vector, "picture"))
        return rows

    def _texts(self, batch: Batch, encoder: Any) -> list[Any]:
        if not self.config.texts or not isinstance(encoder, ReadsTexts):
            return []
        said = batch.steps.column("language").cast(pa.string()).to_pylist()
        spans = [s for a, b in zip(batch.starts, batch.starts[1:], strict=False) for s in _stretches(said, int(a), int(b))]
        distinct = sorted({said[a] for a, _ in spans})
        if not distinct:
            return []
        vectors = dict(zip(distinct, encoder.texts(distinct, batch.device), strict=True))
        return [(a, b, None, said[a], vectors[said[a]], "text") for a, b in spans]

    @staticmethod
    def _episode(batch: Batch, row: int) -> int:
        return int(np.searchsorted(batch.starts, row, side="right")) - 1


def _stretches(said: list[str | None], start: int, stop: int) -> list[tuple[int, int]]:
    """Cut `[start, stop)` where the text changes; stretches without a text are left out."""
    cuts = [start, *(i for i in range(start + 1, stop) if said[i] != said[i - 1]), stop]
    return [(a, b) for a, b in itertools.pairwise(cuts) if a < b and said[a]]


def _task_at_1(rows: list[dict[str, Any]], tasks: dict[str, str], episodes: tuple[str, ...], goal: str) -> QualityReport:
    place = {e: i for i, e in enumerate(episodes)}
    owner: I64 = np.array([place[r["episode_id"]] for r in rows], np.int64)
    vectors: F32 = np.stack([np.asarray(r["vector"], np.float32) for r in rows])
    names = [tasks[e] for e in episodes]
    hit = _hits(vectors, owner, names)
    order = np.argsort(raw([0], 0, len(rows))[0], kind="stable")
    shuffled = _hits(vectors[order], owner, names)
    common = max(names.count(n) for n in set(names)) / len(names)
    sums, counts = (
        np.bincount(owner, hit, len(episodes)).astype(np.float64),
        np.bincount(owner, minlength=len(episodes)).astype(np.float64),
    )
    value, ci95 = ratio(sums, counts)
    baselines = {"shuffled vectors": float(shuffled.mean()), "commonest task": common}
    gate = verdict(ci95 is not None and ci95[0] > max(baselines.values()))
    return QualityReport("task_at_1", value, ci95, len(episodes), len(rows), "all", baselines, gate, "instructions", goal)


def _hits(vectors: F32, owner: I64, names: list[str]) -> npt.NDArray[np.float64]:
    alike = vectors @ vectors.T
    alike[owner[:, None] == owner[None, :]] = -np.inf
    found = owner[np.argmax(alike, axis=1)]
    return np.array([float(names[a] == names[b]) for a, b in zip(owner, found, strict=True)])
