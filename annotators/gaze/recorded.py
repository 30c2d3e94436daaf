"""Recorded gaze: what the wearer of a camera looked at, per step, from the sample nearest in time; never interpolated, never guessed.

Columns of a valid row say where in the picture (`xy`, null where gaze is a direction only), along which ray, how far away, how sure, and
whether it belongs to a fixation. Maps and tokens are made from `xy` when they are needed (`transforms.gaze.maps`) and never stored.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Look, Needs
from annotators.evaluation import QualityReport
from annotators.gaze.config import OUT_OF_FRAME, GazeConfig
from annotators.gaze.samples import Samples, read_samples
from annotators.gaze.source import GazeSource, find_gaze
from annotators.spans import constant, nothing, span_table
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.settings import parse_settings
from transforms.grid import BOOL, I64, SECOND
from transforms.rotation import F64

RECORDED = "recorded"
XY, RAY = pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 3)
MOTION_SIDE = (120, 160)  # pictures that `evaluate` compares gaze with; small, because only their motion matters


@dataclass(frozen=True, slots=True)
class RecordedGaze:
    """Annotates steps with recorded gaze; see the module's text."""

    config: GazeConfig = field(default_factory=GazeConfig)

    name: ClassVar[str] = "gaze"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("xy", XY),  # shares of the stored picture; clipped to it where `type` is out of frame
            pa.field("type", pa.uint8()),  # 0 fixation, 1 saccade, 2 out of frame, 3 untracked
            pa.field("fix_id", pa.int32()),  # number of the fixation in its episode; null: in none
            pa.field("ray", RAY),  # unit vector; null where the lens is not known
            pa.field("ray_frame", NAME),  # camera or cpf
            pa.field("depth", pa.float32()),  # metres to what is looked at; null: not known
            pa.field("depth_assumed", pa.bool_()),
            pa.field("sigma_deg", pa.float32()),  # of the device's own interval; null: it states none
            pa.field("offset_ms", pa.float32()),  # time of the sample minus that of the step
            pa.field("how", NAME),  # pixels, projected, direction
            pa.field("source", NAME),  # recorded
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `GazeConfig`."""
        return cls(parse_settings(GazeConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version and configuration."""
        return fingerprint(self.name, self.version, self.settings())

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the signals and the camera; empty where there is no gaze."""
        source = find_gaze(contract, self.config)
        if isinstance(source, str):
            return ()
        lens = (f"K:{source.camera.name}",) if source.camera is not None else ()
        return (*(f"stream:{s}" for s in source.streams), *lens)

    def needs(self, contract: Contract) -> Needs:
        """Ask for the signals; no picture is looked at."""
        source = find_gaze(contract, self.config)
        return Needs() if isinstance(source, str) else Needs(streams=source.streams)

    def needs_to_evaluate(self, contract: Contract) -> Needs:
        """Ask for the pictures too, small: their motion tells whether gaze has the right clock."""
        source = find_gaze(contract, self.config)
        if isinstance(source, str):
            return Needs()
        look = () if source.camera is None else (Look(source.camera.name, MOTION_SIDE),)
        return Needs(look, source.streams)

    def run(self, batch: Batch) -> pa.Table:
        """Give every step the gaze of its instant; steps without one are invalid and say why."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        source = find_gaze(batch.contract, self.config)
        if isinstance(source, str):
            return nothing(self, batch, source)
        parts = [self.at_steps(batch, e, read_samples(batch, e, source, self.config), source) for e in range(len(batch.episodes))]
        return self._table(batch, source, parts)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure coverage, clock and geometry; see `annotators.gaze.recorded_evaluation`."""
        from annotators.gaze.recorded_evaluation import evaluate_recorded

        return evaluate_recorded(self, heldout)

    def at_steps(self, batch: Batch, episode: int, samples: Samples, source: GazeSource) -> "AtSteps":
        """Return which sample each step of an episode takes, and why some take none."""
        a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
        found = samples.nearest(batch.t_ns[a:b], self._reach(batch.t_ns[a:b], samples.t_ns))
        reason = np.full(b - a, None, object)
        if len(samples):
            safe = np.maximum(found, 0)
            reason[~samples.known[safe]] = "untracked"
            reason[samples.known[safe] & ~samples.ahead[safe]] = "behind_camera"
        reason[found < 0] = "no_sample"
        column = f"frame.{source.camera.name}" if source.camera is not None else ""
        if column in batch.steps.column_names:
            reason[batch.steps.column(column).slice(a, b - a).to_numpy() < 0] = "no_picture"
        return AtSteps(samples, found, reason)

    def _reach(self, steps: I64, samples: I64) -> float:
        """Return how far a sample may be: one step, or half the time between samples where that is longer, and never beyond `within_s`."""
        step, between = (float(np.median(np.diff(t))) / SECOND if len(t) > 1 else np.inf for t in (steps, samples))
        return min(self.config.within_s, max(step, between / 2 * 1.01))

    def _table(self, batch: Batch, source: GazeSource, parts: list["AtSteps"]) -> pa.Table:
        reasons = np.concatenate([p.reason for p in parts])
        valid = np.array([r is None for r in reasons], np.bool_)

        def column(name: str) -> npt.NDArray[Any]:
            return np.concatenate([p.taken(getattr(p.samples, name)) for p in parts])

        times = column("t_ns")
        xy, kind, number = column("xy"), column("kind"), column("fixation")
        clipped = np.where((kind == OUT_OF_FRAME)[:, None], np.clip(xy, 0, 1), xy)
        offset = (times - batch.t_ns) * 1e-6
        hows = np.concatenate([np.full(len(p.reason), p.samples.how, object) for p in parts])
        frames = np.concatenate([np.full(len(p.reason), p.samples.frame, object) for p in parts])
        ray = np.concatenate([p.taken(p.samples.ray.T) for p in parts])
        own: dict[str, Any] = {
            "xy": vectors(clipped, valid & np.isfinite(clipped).all(1)),
            "type": pa.array(kind, mask=~valid),
            "fix_id": pa.array(number, mask=~valid | (number < 0)),
            "ray": vectors(ray, valid & np.isfinite(ray).all(1)),
            "ray_frame": words(frames, valid & np.isfinite(ray).all(1)),
            "depth": numbers(column("depth"), valid),
            "depth_assumed": pa.array(column("assumed"), mask=~valid),
            "sigma_deg": numbers(column("sigma_deg"), valid),
            "offset_ms": numbers(offset, valid),
            "how": words(hows, valid),
            "source": words(np.full(len(valid), RECORDED, object), valid),
        }
        rows = np.arange(len(valid))
        camera = None if source.camera is None else constant(source.camera.name, len(valid))
        sure = numbers(np.clip(column("confidence"), 0, 1), valid)
        return span_table(self, batch, rows, rows + 1, pa.array(reasons.tolist(), pa.string()).dictionary_encode(), own, camera=camera, confidence=sure)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AtSteps:
    """The steps of one episode: the sample each takes, int64[T] (-1: none), and why a step has none, object[T] (None: it has)."""

    samples: Samples
    found: I64
    reason: npt.NDArray[Any]

    def taken(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a value [N, ...] of the samples at every step, [T, ...]; what stands where there is no sample means nothing."""
        if not len(values):
            return np.zeros((len(self.found), *values.shape[1:]), values.dtype)
        return values[np.maximum(self.found, 0)]


def vectors(values: F64, known: BOOL) -> pa.FixedSizeListArray:
    """Return a column of fixed-size lists from float64[T, D]; null where not known."""
    flat = pa.array(np.where(known[:, None], values, 0.0).astype(np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~known))


def numbers(values: npt.NDArray[Any], known: BOOL) -> pa.Array:
    """Return a float32 column; null where not known or not finite."""
    kept = known & np.isfinite(values)
    return pa.array(np.where(kept, values, 0.0).astype(np.float32), mask=~kept)


def words(values: npt.NDArray[Any], known: BOOL) -> pa.Array:
    """Return a dictionary column of texts; null where not known."""
    told = [v if k else None for v, k in zip(values.tolist(), known.tolist(), strict=True)]
    return pa.array(told, pa.string()).dictionary_encode()
