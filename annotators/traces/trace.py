"""Traces: where the hand will go, as a polyline in a picture (MolmoAct) and as sparse poses in space (Bridge Thinking and Acting).

Pixels come from a calibration, declared by the contract or recorded with the episode; where there is none, from one found by DLT and
RANSAC over at least twenty pairs of tip and pixel (`hand_pixel.<camera>` or `tip_pixel.<camera>` signals: a simulator, or whoever
pointed). Where neither is known nothing is drawn, and the rows say so. Text goes to LeRobot's event column in style `trace`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.motion.source import MotionSource
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from annotators.spans import constant, episodes_of, nothing, span_table
from annotators.traces.draw import Line, Waypoints, draw, waypoints
from annotators.traces.hand import Hand, hand_source, read_hand
from annotators.traces.views import View, Wanted, choose_camera, open_view, view_streams
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import SECOND
from transforms.horizon import HORIZON_PAST_END
from transforms.polyline import Sampling
from transforms.rotation import F64

WORST_PX = 8.0  # reprojection error at 256 pixels beyond which a found camera is none
SUBTASKS = Segments(SegmentsConfig(privileged=False, motions=False))


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """How to draw.

    Attributes:
        camera: which one; None: the first exterior one that something is known about.
        how: `auto` (a calibration before a fit), or only `calibrated`, `dlt`, or `recorded` pixels.
        until: a trace ends with its `subtask` (of the annotator `segments`) or with the `episode`.
        sampling: `uniform_time`, `arc_length` or `rdp`; points where the gripper opens or closes are always among them.
        points: at most so many.
        tolerance: of `rdp`, share of the picture's diagonal.
        every_s: seconds from one trace to the next.
        tip_m: the tip in the hand's own axes.
        waypoint_m: tolerance of waypoints.
        waypoints: at most so many.
    """

    camera: str | None = None
    how: Wanted = "auto"
    until: Literal["subtask", "episode"] = "subtask"
    sampling: Sampling = "rdp"
    points: int = 5
    tolerance: float = 0.01
    every_s: float = 0.5
    tip_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    waypoint_m: float = 0.01
    waypoints: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: names the field.
        """
        for name, least in (("points", 2), ("waypoints", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} draws no line; use {least} or more")
        for name in ("tolerance", "every_s", "waypoint_m"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above 0")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One row: what was drawn over a span of steps, or why nothing was."""

    first: int
    stop: int
    reason: str | None = None
    line: Line | None = None
    way: Waypoints | None = None
    view: View | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Annotates steps with traces; see the module's text."""

    config: TraceConfig = field(default_factory=TraceConfig)

    name: ClassVar[str] = "trace"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),  # JSON, see `annotators.traces.draw.Line.text`
            pa.field("style", NAME),  # LeRobot's style
            pa.field("trace", pa.list_(pa.uint8())),  # x0 y0 x1 y1 ..., 255ths of the picture
            pa.field("n_pts", pa.uint8()),
            pa.field("visible", pa.uint32()),  # bit i: point i lies inside the picture
            pa.field("grip_event", pa.list_(pa.int8())),  # per point: -1 closes, 1 opens
            pa.field("how", NAME),  # calibrated, dlt, recorded
            pa.field("rmse_px", pa.float32()),  # reprojection error of a found camera; null: a declared one
            pa.field("waypoints", pa.list_(pa.float32())),  # eight numbers each: xyz, quaternion wxyz, opening (-1: unknown)
            pa.field("waypoint_s", pa.list_(pa.float32())),  # seconds after the row's start
            pa.field("waypoint_frame", NAME),  # camera, or the contract's frame
            pa.field("waypoint_curve", NAME),  # what to draw through them: spline or linear
            pa.field("waypoint_rmse_m", pa.float32()),  # of that curve against every step
            pa.field("waypoint_max_m", pa.float32()),
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `TraceConfig`."""
        return cls(parse_settings(TraceConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, and the segments that traces end with."""
        inside = (SUBTASKS.fingerprint(),) if self.config.until == "subtask" else ()
        return fingerprint(self.name, self.version, self.settings(), inside)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the columns, calibration and signals it reads; empty where there is no hand or no camera to draw in."""
        found = self.usable(contract)
        if isinstance(found, str):
            return ()
        source, camera = found
        segments = SUBTASKS.requires(contract) if self.config.until == "subtask" else ()
        signals = tuple(f"stream:{s}" for s in view_streams(contract, camera))
        return tuple(dict.fromkeys((*source.columns, *segments, f"K:{camera.name}", *signals)))

    def needs(self, contract: Contract) -> Needs:
        """Ask for the signals that say where the camera, or the tip in it, is."""
        found = self.usable(contract)
        return Needs() if isinstance(found, str) else Needs(streams=view_streams(contract, found[1]))

    def usable(self, contract: Contract) -> tuple[MotionSource, Camera] | str:
        """Return the hand and the camera of a dataset, or the reason why there is none."""
        source = hand_source(contract)
        if source is None:
            return "no_end_effector"
        camera = choose_camera(contract, self.config.camera, self.config.how)
        return camera if isinstance(camera, str) else (source, camera)

    def run(self, batch: Batch) -> pa.Table:
        """Draw a trace every `every_s` seconds; what cannot be drawn is in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        found = self.usable(batch.contract)
        if isinstance(found, str):
            return nothing(self, batch, found)
        source, camera = found
        hand, ends = read_hand(batch, source, self.config.tip_m), self.ends(batch)
        rows: list[Drawn] = []
        for episode in range(len(batch.episodes)):
            rows += self._episode(batch, episode, camera, hand, ends)
        return self._table(batch, camera, rows)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure pixels, lines, waypoints and use; see `annotators.traces.evaluation`."""
        from annotators.traces.evaluation import evaluate_traces

        return evaluate_traces(self, heldout)

    def ends(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the row where what each step belongs to ends, int64[T]: the first of the next subtask, or the episode's last."""
        last = np.repeat(batch.starts[1:] - 1, np.diff(batch.starts))
        if self.config.until == "episode":
            return last
        parts = SUBTASKS.run(batch)
        first = batch.starts[episodes_of(parts, batch)]
        for a, stop in zip(
            first + parts.column("start_step").to_numpy(), first + parts.column("end_step").to_numpy(), strict=True
        ):
            last[a:stop] = np.minimum(last[a:stop], stop)
        return last

    def _episode(self, batch: Batch, episode: int, camera: Camera, hand: Hand, ends: Any) -> list[Drawn]:
        a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
        seconds = (batch.t_ns[a:b] - batch.t_ns[a]) * (1 / SECOND)
        cell = np.floor(seconds / self.config.every_s + 1e-6)
        anchors = np.flatnonzero(np.concatenate([[True], np.diff(cell) > 0]))
        spans = list(zip(anchors.tolist(), [*anchors[1:].tolist(), b - a], strict=True))
        if not hand.finite[a:b].all():
            return [Drawn(a + s, a + e, "non_finite_input") for s, e in spans]
        tip = hand.tip[:, a:b]
        view = open_view(batch, episode, camera, tip, self.config.how)
        if (
            isinstance(view, View)
            and view.rmse_px is not None
            and view.rmse_px * 256 / max(camera.width, camera.height) > WORST_PX
        ):
            view = "reprojection_error"
        if isinstance(view, str):
            return [Drawn(a + s, a + e, view) for s, e in spans]
        mine = hand.part(a, b)
        return [self._drawn(view, tip, mine, seconds, a, s, e, ends[a:b] - a) for s, e in spans]

    def _drawn(self, view: View, tip: F64, hand: Hand, seconds: F64, offset: int, start: int, stop: int, ends: Any) -> Drawn:
        """Draw one trace, to the end of its subtask, or of the next one where that ends before anything happens."""
        end, config = int(ends[start]), self.config
        if seconds[end] - seconds[start] < config.every_s / 2:
            end = int(ends[end])
        if seconds[end] - seconds[start] < config.every_s / 2 - 1e-6:
            return Drawn(offset + start, offset + stop, HORIZON_PAST_END)
        steps = slice(start, end + 1)
        line = draw(view, tip, hand, steps, seconds, config.sampling, config.points, config.tolerance)
        if isinstance(line, str):
            return Drawn(offset + start, offset + stop, line)
        way = waypoints(tip, hand, steps, seconds, config.waypoint_m, config.waypoints, view.pose(start))
        return Drawn(offset + start, offset + stop, None, line, way, view)

    def _table(self, batch: Batch, camera: Camera, rows: list[Drawn]) -> pa.Table:
        frame = hand_source(batch.contract)
        told = (frame.arms[0].position.frame if frame else None) or "base"
        own: dict[str, Any] = {
            "text": pa.array([r.line and r.line.text() for r in rows], pa.string()).dictionary_encode(),
            "style": constant("trace", len(rows)),
            "trace": pa.array([r.line and r.line.points.reshape(-1).tolist() for r in rows], pa.list_(pa.uint8())),
            "n_pts": pa.array([r.line and len(r.line.points) for r in rows], pa.uint8()),
            "visible": pa.array([r.line and r.line.visible for r in rows], pa.uint32()),
            "grip_event": pa.array([r.line and r.line.grip.tolist() for r in rows], pa.list_(pa.int8())),
            "how": pa.array([r.view and r.view.how for r in rows], pa.string()).dictionary_encode(),
            "rmse_px": pa.array([r.view.rmse_px if r.view else None for r in rows], pa.float32()),
            "waypoints": pa.array([r.way and r.way.poses.reshape(-1).tolist() for r in rows], pa.list_(pa.float32())),
            "waypoint_s": pa.array([r.way and r.way.seconds.tolist() for r in rows], pa.list_(pa.float32())),
            "waypoint_frame": pa.array([(told if r.view.poses is None else "camera") if r.view else None for r in rows], pa.string()).dictionary_encode(),
            "waypoint_curve": pa.array([r.way and r.way.curve for r in rows], pa.string()).dictionary_encode(),
            "waypoint_rmse_m": pa.array([r.way.rmse_m if r.way else None for r in rows], pa.float32()),
            "waypoint_max_m": pa.array([r.way.max_m if r.way else None for r in rows], pa.float32()),
        }  # fmt: skip
        first, stop = (np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        return span_table(self, batch, first, stop, [r.reason for r in rows], own, camera=constant(camera.name, len(rows)))
