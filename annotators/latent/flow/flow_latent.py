"""`flow_latent`: the latent action that needs no training. Mean optical flow on a grid and its best affine motion, per pair of pictures.

One row per picture kept, horizon and colour camera, about what happens until the picture that is nearest to a horizon later. It is the
honest baseline of a latent action model: whatever that learns must tell more about actions than this.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Clip, Look, Needs, colour_cameras
from annotators.evaluation import QualityReport
from annotators.spans import nothing, span_table
from schemas.annotation import annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.horizon import HORIZON_PAST_END, Boundary, ahead
from transforms.optical_flow import CELLS, F32, LEAST, camera_shift, dense_flow, describe, grey

NO_PICTURE, NO_CAMERA = "no_picture", "no_colour_camera"


@dataclass(frozen=True, slots=True)
class FlowLatentConfig:
    """What to look at.

    Attributes:
        cameras: whose pictures; empty: all colour cameras that are not privileged.
        side: pictures are scaled into a square of this side, in pixels.
        hz: at most this many pictures per second.
        horizons_s: how far ahead the second picture of a pair lies; one row each.
        cells: the grid is this many cells wide and high.
        boundary: `invalid` says so where the episode ends before the horizon, `clip` takes its last picture.
    """

    cameras: tuple[str, ...] = ()
    side: int = 64
    hz: float = 5.0
    horizons_s: tuple[float, ...] = (0.4,)
    cells: int = CELLS
    boundary: Boundary = "invalid"

    def __post_init__(self) -> None:
        if self.side < LEAST or not 1 <= self.cells <= self.side // 4:
            raise UsageError(
                f"side={self.side}, cells={self.cells}: use a side of {LEAST} or more, and cells of at least 4 pixels"
            )
        if not (self.hz > 0 and self.horizons_s and min(self.horizons_s) * self.hz > 0.5):
            raise UsageError(f"horizons_s={self.horizons_s} must be longer than half of 1 / hz, here {0.5 / self.hz:g} s")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: two pictures, or why there are none."""

    first: int
    stop: int
    camera: str
    horizon_s: float
    t0_ns: int = 0
    t1_ns: int = 0
    z: F32 | None = None
    shift: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FlowLatent:
    """Annotates pairs of pictures with described flow; see the module's text."""

    config: FlowLatentConfig = field(default_factory=FlowLatentConfig)

    name: ClassVar[str] = "flow_latent"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "pair"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("horizon_s", pa.float32()),  # asked for
            pa.field("t0_ns", pa.int64()),  # of the first picture, on the episode's clock
            pa.field("t1_ns", pa.int64()),  # of the second
            pa.field("z", pa.list_(pa.float32())),  # see `transforms.optical_flow.describe`
            pa.field("cam_motion_px", pa.float32()),  # length of the border's median flow, in pixels of the working resolution
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `FlowLatentConfig`."""
        return cls(parse_settings(FlowLatentConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration and OpenCV's major version."""
        return fingerprint(self.name, self.version, self.settings(), libraries=("opencv-python-headless",))

    def cameras(self, contract: Contract) -> tuple[str, ...]:
        """Return the cameras looked at."""
        return tuple(c.name for c in colour_cameras(contract, self.config.cameras))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the cameras it looks at."""
        return tuple(f"rgb:{c}" for c in self.cameras(contract))

    def needs(self, contract: Contract) -> Needs:
        """Ask for small pictures; a row looks no further than the longest horizon and the picture after it."""
        size, reach = (self.config.side, self.config.side), max(self.config.horizons_s) + 2 / self.config.hz
        return Needs(tuple(Look(c, size, self.config.hz) for c in self.cameras(contract)), context_s=reach)

    def run(self, batch: Batch) -> pa.Table:
        """Describe the flow of every pair."""
        cameras = [c for c in self.cameras(batch.contract) if c in batch.clips]
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        if not cameras:
            return nothing(self, batch, NO_CAMERA)
        rows: list[Pair] = []
        for camera in cameras:
            for episode, clip in enumerate(batch.clips[camera]):
                rows += self._pairs(clip, camera, int(batch.starts[episode]), int(batch.starts[episode + 1]))
        rows.sort(key=lambda r: r.first)  # stable: by camera, picture and horizon among the rows of a step
        return self._table(batch, rows)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure what the latent tells about the motion of the same interval; see `annotators.latent.gates`."""
        from annotators.latent.gates.batches import evaluate_latents

        return evaluate_latents(self, heldout)

    def _pairs(self, clip: Clip, camera: str, start: int, end: int) -> Iterator[Pair]:
        if not len(clip):
            yield Pair(start, end, camera, self.config.horizons_s[0], reason=NO_PICTURE)
            return
        pictures = grey(clip.pictures)
        edges = np.array([0, len(clip)], np.int64)
        later = [(h, *ahead(clip.t_ns, edges, h, self.config.boundary)) for h in self.config.horizons_s]
        for i in range(len(clip)):
            first = start + int(clip.step[i])
            for horizon, found, valid in later:
                j = int(found[i])
                if not valid[i]:
                    yield Pair(first, end, camera, horizon, int(clip.t_ns[i]), reason=HORIZON_PAST_END)
                    continue
                flow = dense_flow(pictures[i], pictures[j])
                stop = max(start + int(clip.step[j]), first + 1)
                shift = float(np.hypot(*camera_shift(flow)))
                seen = int(clip.t_ns[i]), int(clip.t_ns[j])
                yield Pair(first, stop, camera, horizon, *seen, describe(flow, self.config.cells), shift)

    def _table(self, batch: Batch, rows: list[Pair]) -> pa.Table:
        first, stop = (np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        valid = np.array([r.reason is None for r in rows])
        own = {
            "horizon_s": pa.array([r.horizon_s for r in rows], pa.float32()),
            "t0_ns": pa.array([r.t0_ns for r in rows], pa.int64(), mask=~valid),
            "t1_ns": pa.array([r.t1_ns for r in rows], pa.int64(), mask=~valid),
            "z": pa.array([r.z for r in rows], pa.list_(pa.float32())),
            "cam_motion_px": pa.array([r.shift for r in rows], pa.float32(), mask=~valid),
        }
        camera = pa.array([r.camera for r in rows], pa.string()).dictionary_encode()
        return span_table(self, batch, first, stop, [r.reason for r in rows], own, camera=camera)
