"""Depth tokens: every depth picture as a 10 by 10 grid of codes (MolmoAct), decoded again and measured.

The codes are trained on the user's own depth (`cotrain train-depth`). Where a dataset has no depth camera, does not say what its
unit is, or no codes are named, rows say so; depth is never guessed from colour.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Clip, Look, Needs
from annotators.depth.frames import FAR, NEAR, as_model_input, depth_camera, errors, to_metres
from annotators.depth.model import GRID, encode, load
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.spans import constant, lists, nothing, span_table
from annotators.weights import hash_weights
from schemas.annotation import annotation_schema
from schemas.contract import Camera, Contract
from schemas.settings import parse_settings
from transforms.grid import I64, SECOND

METRICS = ("depth_abs_rel", "depth_within_125", "codebook_perplexity")
HOLD_S = 1.0  # steps without a picture of their own keep the last one for this long
LEAST_MEASURED = 0.2  # share of pixels a picture must have between 0.1 and 5 m


@dataclass(frozen=True, slots=True)
class DepthTokensConfig:
    """Which codes and camera.

    Attributes:
        weights: file of the codes, see `cotrain train-depth`; empty: rows say that there are none.
        camera: which depth camera; None: the first whose unit is stated.
        hz: at most this many pictures per second; None: all.
    """

    weights: str = ""
    camera: str | None = None
    hz: float | None = None


@dataclass(frozen=True, slots=True)
class DepthTokens:
    """Annotates depth pictures with codes; see the module's text."""

    config: DepthTokensConfig = field(default_factory=DepthTokensConfig)

    name: ClassVar[str] = "depth_tokens"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    tuned: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("depth_tok", pa.list_(pa.uint8())),  # row by row, GRID * GRID of them
            pa.field("depth_rmse", pa.float32()),  # metres, decoded against measured, of pixels within 0.1 and 5 m
            pa.field("depth_abs_rel", pa.float32()),
            pa.field("measured", pa.float32()),  # share of such pixels
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; the weights are read at once, so that a wrong file is told early.

        Raises:
            UsageError: the weights cannot be read.
        """
        made = cls(parse_settings(DepthTokensConfig, settings))
        if made.config.weights:
            _model(made.config.weights, hash_weights(made.config.weights)[0])
        return made

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, the weights' content and torch."""
        plain = {k: v for k, v in self.settings().items() if k != "weights"}
        weights = hash_weights(self.config.weights) if self.config.weights else ()
        return fingerprint(self.name, self.version, plain, weights, ("torch",))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the depth camera; empty where there is none."""
        camera = depth_camera(contract, self.config.camera)
        return () if isinstance(camera, str) else (f"depth:{camera.name}",)

    def needs(self, contract: Contract) -> Needs:
        """Ask for the depth pictures, one by one."""
        camera = depth_camera(contract, self.config.camera)
        return Needs() if isinstance(camera, str) else Needs((Look(camera.name, None, self.config.hz),), context_s=HOLD_S)

    def run(self, batch: Batch) -> pa.Table:
        """Code what every step sees; a row holds until the next picture."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        camera = depth_camera(batch.contract, self.config.camera)
        if isinstance(camera, str) or camera.name not in batch.clips:
            return nothing(self, batch, camera if isinstance(camera, str) else "no_depth_camera")
        if not self.config.weights:
            return nothing(self, batch, "no_weights")
        first, stop, shown = spans(batch, batch.clips[camera.name])
        pictures = [batch.clips[camera.name][e].pictures[p] for e, p in shown if p >= 0]
        held = np.array([p >= 0 for _, p in shown], np.bool_)
        return self._table(batch, camera, first, stop, held, pictures)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure decoded depth on the test half against the mean depth picture of the other half, and how many codes are used."""
        test, other = heldout.part("test"), heldout.part("val")
        why = self._obstacle(test) or (self._obstacle(other) and "no other half to take the mean from")
        return tuple(not_measurable(m, why) for m in METRICS) if why else self._measure(test, other)

    def _obstacle(self, batch: Batch) -> str:
        camera = depth_camera(batch.contract, self.config.camera)
        if isinstance(camera, str):
            return camera
        if not self.config.weights:
            return "no_weights"
        return "" if any(len(c) for c in batch.clips.get(camera.name, ())) else "no depth picture"

    def _table(self, batch: Batch, camera: Camera, first: I64, stop: I64, held: Any, pictures: list[Any]) -> pa.Table:
        count, own = len(first), {f.name: pa.nulls(len(first), f.type) for f in self.provides}
        reasons: list[str | None] = [None if h else "no_picture" for h in held.tolist()]
        if pictures:
            codes, metres, found = self._coded(np.stack(pictures), camera, batch)
            rmse, relative, _ = errors(metres, found)
            measured = ((metres >= NEAR) & (metres <= FAR)).mean((1, 2))
            for row, share in zip(np.flatnonzero(held).tolist(), measured.tolist(), strict=True):
                reasons[row] = None if share >= LEAST_MEASURED else "little_depth"
            valid = np.array([r is None for r in reasons], np.bool_)
            kept = valid[held]
            own = {"depth_tok": lists(codes[kept].reshape(-1), np.where(valid, GRID * GRID, 0), valid, pa.uint8())}
            for name, values in (("depth_rmse", rmse), ("depth_abs_rel", relative), ("measured", measured)):
                column = np.zeros(count, np.float32)
                column[valid] = values[kept]
                own[name] = pa.array(column, mask=~valid)
        return span_table(self, batch, first, stop, reasons, own, camera=constant(camera.name, count))

    def _coded(self, pictures: Any, camera: Camera, batch: Batch) -> tuple[Any, Any, Any]:
        """Return codes uint8[N, 100], measured and decoded metres float32[N, 80, 80]."""
        metres, given = as_model_input(pictures, camera.depth_unit_m or 0.0)
        model = _model(self.config.weights, hash_weights(self.config.weights)[0])
        codes, found = encode(model, given, batch.at_once, batch.device)
        return codes, metres, to_metres(found)

    def _measure(self, test: Batch, other: Batch) -> tuple[QualityReport, ...]:
        camera = depth_camera(test.contract, self.config.camera)
        assert not isinstance(camera, str)
        owner = np.concatenate([np.full(len(c), e) for e, c in enumerate(test.clips[camera.name])]).astype(np.int64)
        codes, metres, found = self._coded(np.concatenate([c.pictures for c in test.clips[camera.name] if len(c)]), camera, test)
        before, _ = as_model_input(
            np.concatenate([c.pictures for c in other.clips[camera.name] if len(c)]), camera.depth_unit_m or 0.0
        )
        seen, inside = np.isfinite(before), np.nan_to_num(np.clip(before, NEAR, FAR))
        mean = np.where(seen.any(0), inside.sum(0) / np.maximum(seen.sum(0), 1), FAR)
        one = np.full_like(mean, inside.sum() / max(int(seen.sum()), 1))
        mine, lazy, flat = (errors(metres, np.broadcast_to(f, metres.shape)) for f in (found, mean, one))
        use = np.isfinite(mine[1])

        def report(metric: str, place: int, lower: bool, goal: str) -> QualityReport:
            totals = [np.bincount(owner[use], m[place][use], len(test.episodes)).astype(np.float64) for m in (mine, lazy, flat)]
            count = np.bincount(owner[use], minlength=len(test.episodes)).astype(np.float64)
            value, ci = ratio(totals[0], count)
            others = {"mean_picture": float(totals[1].sum() / count.sum()), "mean_depth": float(totals[2].sum() / count.sum())}
            better = value < min(others.values()) if lower else value > max(others.values())
            return QualityReport(
                metric, value, ci, len(test.episodes), int(use.sum()), "test", others, verdict(better), "measured depth", goal
            )

        counts = np.bincount(codes.reshape(-1), minlength=256)
        share = counts[counts > 0] / counts.sum()
        perplexity = float(np.exp(-(share * np.log(share)).sum()))
        used = QualityReport(
            METRICS[2], perplexity, None, len(test.episodes), len(codes), "test", {"one_code": 1.0}, verdict(perplexity > 8),
            "no truth needed", "above 8", {"codes_used": int((counts > 0).sum())},
        )  # fmt: skip
        return report(METRICS[0], 1, True, "below both means"), report(METRICS[1], 2, False, "above both means"), used


def spans(batch: Batch, clips: tuple[Clip, ...]) -> tuple[I64, I64, list[tuple[int, int]]]:
    """Return runs of steps that see the same picture: first rows, rows after, and (episode, picture); -1 where none was taken yet."""
    first, shown = list[int](), list[tuple[int, int]]()
    for episode, clip in enumerate(clips):
        held = np.maximum.accumulate(clip.seen)
        t_ns = batch.t_ns[batch.starts[episode] : batch.starts[episode + 1]]
        last = np.maximum.accumulate(np.where(clip.seen >= 0, np.arange(len(held)), -1))
        held = np.where((last >= 0) & (t_ns - t_ns[np.maximum(last, 0)] < HOLD_S * SECOND), held, -1)
        change = np.flatnonzero(np.concatenate([[True], np.diff(held) != 0]))
        first += (int(batch.starts[episode]) + change).tolist()
        shown += [(episode, int(p)) for p in held[change]]
    stop = [*first[1:], int(batch.starts[-1])]
    return np.array(first, np.int64), np.array(stop, np.int64), shown


@lru_cache(maxsize=2)
def _model(path: str, _content: str) -> Any:
    return load(path)
