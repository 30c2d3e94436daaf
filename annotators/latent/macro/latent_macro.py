"""`latent_macro`: latent actions of longer stretches. Runs that hold one code, chains of latents, or several horizons at once.

The latents are those of `latent_action` with the same checkpoint. `persistent` rows tile what a camera shows of an episode with runs of one
code, as exact Viterbi finds them; `sequence` rows say how `count` latents follow each other; `horizons` rows say what happens over all of the
model's horizons from one picture on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.latent.checkpoint import hash_checkpoint
from annotators.latent.latent_action import NO_CAMERA, NO_CHECKPOINT, LatentAction, LatentActionConfig
from annotators.latent.macro.book import code_book
from annotators.latent.macro.latents import Latents, latents_of
from annotators.spans import nothing, span_table
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import I64
from transforms.horizon import HORIZON_PAST_END
from transforms.macro_latents import chain, distances, macro_runs, persistent

Kind = Literal["persistent", "sequence", "horizons"]
NO_CODES = "no_codes"


@dataclass(frozen=True, slots=True)
class LatentMacroConfig:
    """Which model, and what is made of its latents.

    Attributes:
        checkpoint: folder that `cotrain train-lam` wrote; empty: rows say that there is none.
        kind: `persistent`, `sequence` or `horizons`, see the module's text.
        cameras: whose pictures; empty: all colour cameras that are not privileged.
        hz: at most this many pictures per second.
        count: latents of a sequence.
        penalty: of a change of code, in squared distances from a code to its nearest neighbour; `--evaluate` says which one makes runs of a second.
    """

    checkpoint: str = ""
    kind: Kind = "persistent"
    cameras: tuple[str, ...] = ()
    hz: float = 5.0
    count: int = 4
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.hz > 0 or self.count < 2 or not self.penalty >= 0:
            raise UsageError(f"hz={self.hz}, count={self.count}, penalty={self.penalty}: use more than 0, 2 or more, 0 or more")


@dataclass(frozen=True, slots=True)
class Macro:
    """One row."""

    first: int
    stop: int
    camera: str
    span_s: float
    t0_ns: int = 0
    t1_ns: int = 0
    z: npt.NDArray[np.float32] | None = None
    code: npt.NDArray[np.int64] | None = None
    latents: int = 0
    cost: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LatentMacro:
    """Annotates stretches with latents of their own; see the module's text."""

    config: LatentMacroConfig = field(default_factory=LatentMacroConfig)

    name: ClassVar[str] = "latent_macro"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "segment"
    tuned: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("kind", NAME),
            pa.field("horizon_s", pa.float32()),  # of one latent of a run; of a whole sequence; the longest of several
            pa.field("t0_ns", pa.int64()),  # of the first picture, on the episode's clock
            pa.field("t1_ns", pa.int64()),  # of the last
            pa.field("z", pa.list_(pa.float32())),  # the mean of a run; the others one after another
            pa.field("code", pa.list_(pa.int32())),  # the run's code per token; the others' nearest codes one after another
            pa.field("latents", pa.int32()),  # how many it is made of
            pa.field("cost", pa.float32()),  # of a run: mean squared distance from its latents to its code
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs.

        Raises:
            UsageError: the checkpoint cannot be read.
        """
        made = cls(parse_settings(LatentMacroConfig, settings))
        if made.config.checkpoint:
            LatentAction.from_settings({"checkpoint": made.config.checkpoint, "hz": made.config.hz})
        return made

    @property
    def short(self) -> LatentAction:
        """The annotator whose latents these are made of."""
        c = self.config
        plain = LatentActionConfig(c.checkpoint, c.cameras, c.hz, judge=False, least_gain=None, camera_motion=False)
        return LatentAction(plain)

    def with_penalty(self, penalty: float) -> "LatentMacro":
        """Return the same annotator with another penalty."""
        return replace(self, config=replace(self.config, penalty=penalty))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, the checkpoint's content and torch."""
        plain = {k: v for k, v in self.settings().items() if k != "checkpoint"}
        weights = hash_checkpoint(self.config.checkpoint) if self.config.checkpoint else ()
        return fingerprint(self.name, self.version, plain, weights, ("torch",))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the cameras it looks at."""
        return self.short.requires(contract)

    def needs(self, contract: Contract) -> Needs:
        """Ask for the pictures of the short latents; whole episodes, for a path knows its end."""
        return Needs(self.short.needs(contract).looks)

    def run(self, batch: Batch) -> pa.Table:
        """Make rows of the batch's latents."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        if not self.config.checkpoint:
            return nothing(self, batch, NO_CHECKPOINT)
        if not [c for c in self.short.cameras(batch.contract) if c in batch.clips]:
            return nothing(self, batch, NO_CAMERA)
        short = self.short.run(batch)
        rows = [row for latents in latents_of(short, batch, self.short.lam.model.horizons_s) for row in self._rows(latents)]
        rows.sort(key=lambda r: r.first)
        return self._table(batch, rows)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure how long runs last and whether actions change where they do, or what sequences tell about actions."""
        from annotators.latent.macro.evaluation import evaluate_macros

        return evaluate_macros(self, heldout.part("test"), heldout.part("val"))

    def _rows(self, latents: Latents) -> Iterator[Macro]:
        """Make the rows of one camera and episode."""
        if latents.reason is not None:
            yield Macro(latents.start, latents.end, latents.camera, latents.horizons_s[0], reason=latents.reason)
            return
        making = {"persistent": self._runs, "sequence": self._sequences, "horizons": self._horizons}[self.config.kind]
        yield from making(latents)

    def _runs(self, latents: Latents) -> Iterator[Macro]:
        book = code_book(self.config.checkpoint)
        if book is None:
            yield Macro(latents.start, latents.end, latents.camera, latents.horizons_s[0], reason=NO_CODES)
            return
        now = latents.over(0)
        starts = now.breaks()
        costs = [distances(t, book.codes) for t in book.tokens(now.z)]
        path = np.stack([persistent(c, starts, self.config.penalty * book.unit) for c in costs], 1)
        paid = np.mean([c[np.arange(len(c)), p] for c, p in zip(costs, path.T, strict=True)], axis=0)
        ends = set(starts.tolist())
        for a, n in zip(*(x.tolist() for x in macro_runs(path, starts)), strict=True):
            b = a + n
            t1, stop = (now.t1_ns[b - 1], now.stop[b - 1]) if b in ends else (now.t0_ns[b], now.first[b])
            what = int(t1), now.z[a:b].mean(0), path[a], n, float(paid[a:b].mean())
            first = int(now.first[a])
            yield Macro(first, max(int(stop), first + 1), now.camera, now.horizons_s[0], int(now.t0_ns[a]), *what)

    def _sequences(self, latents: Latents) -> Iterator[Macro]:
        now, seconds = latents.over(0), latents.horizons_s[0]
        rows, valid = chain(now.t0_ns, np.array([0, len(now)]), seconds, self.config.count)
        for i in range(len(now)):
            yield self._joined(now, rows[i] if valid[i] else rows[i, :1], seconds * self.config.count, valid=bool(valid[i]))

    def _horizons(self, latents: Latents) -> Iterator[Macro]:
        for rows in np.split(np.arange(len(latents)), np.flatnonzero(np.diff(latents.t0_ns)) + 1):
            yield self._joined(latents, rows, latents.horizons_s[-1], valid=len(rows) == len(latents.horizons_s))

    def _joined(self, latents: Latents, rows: I64, span_s: float, *, valid: bool) -> Macro:
        """Lay the latents of some rows one after another."""
        first, last = int(latents.first[rows[0]]), rows[-1]
        t0 = int(latents.t0_ns[rows[0]])
        if not valid:
            return Macro(first, latents.end, latents.camera, span_s, t0, reason=HORIZON_PAST_END)
        book = code_book(self.config.checkpoint)
        z = latents.z[rows]
        code = None if book is None else book.nearest(z)
        stop = max(int(latents.stop[last]), first + 1)
        return Macro(first, stop, latents.camera, span_s, t0, int(latents.t1_ns[last]), z.reshape(-1), code, len(rows))

    def _table(self, batch: Batch, rows: list[Macro]) -> pa.Table:
        first, stop = (np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        valid = np.array([r.reason is None for r in rows])
        own = {
            "kind": pa.array([self.config.kind] * len(rows), pa.string()).dictionary_encode(),
            "horizon_s": pa.array([r.span_s for r in rows], pa.float32()),
            "t0_ns": pa.array([r.t0_ns for r in rows], pa.int64(), mask=~valid),
            "t1_ns": pa.array([r.t1_ns for r in rows], pa.int64(), mask=~valid),
            "z": pa.array([r.z for r in rows], pa.list_(pa.float32())),
            "code": pa.array([r.code for r in rows], pa.list_(pa.int32())),
            "latents": pa.array([r.latents for r in rows], pa.int32(), mask=~valid),
            "cost": pa.array([r.cost for r in rows], pa.float32()),
        }
        camera = pa.array([r.camera for r in rows], pa.string()).dictionary_encode()
        return span_table(self, batch, first, stop, [r.reason for r in rows], own, camera=camera)
