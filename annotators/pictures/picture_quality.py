"""Picture quality per step and camera: how sharp, how bright, how much changes per second, and for how long nothing has. No model.

One row per step and colour camera, about the picture that step sees. `sharpness` is the variance of the Laplacian of the luminance
(Pech-Pacheco and others, *Diatom autofocusing in brightfield microscopy*, 2000) at the working resolution, so it compares pictures of
one camera, not of two. A camera that stands still in a still scene and a frozen one look the same: `frozen_s` is exact repetition.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Clip, Look, Needs, colour_cameras
from annotators.evaluation import QualityReport
from annotators.pictures.measures import Measured, measure
from annotators.spans import nothing, span_table
from schemas.annotation import annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import I64

NO_PICTURE, NO_CAMERA = "no_picture", "no_colour_camera"


@dataclass(frozen=True, slots=True)
class PictureQualityConfig:
    """What to measure and how.

    Attributes:
        cameras: which colour cameras; empty: all that are not privileged.
        side: pictures are scaled into a square of this side, in pixels.
        change_s: change is measured against the picture this long before.
        still_below: mean difference of luminance (of 1) under which two pictures in a row are the same.
        longest_s: `frozen_s` counts up to this.
    """

    cameras: tuple[str, ...] = ()
    side: int = 128
    change_s: float = 0.1
    still_below: float = 1e-4
    longest_s: float = 2.0

    def __post_init__(self) -> None:
        if self.side < 16:
            raise UsageError(f"side={self.side} is too small to say anything about a picture; use 16 or more")
        if not (self.change_s > 0 and self.longest_s > 0 and self.still_below > 0):
            raise UsageError("change_s, longest_s and still_below must be positive")


@dataclass(frozen=True, slots=True)
class PictureQuality:
    """Annotates what every step sees with sharpness, brightness and change; see the module's text."""

    config: PictureQualityConfig = field(default_factory=PictureQualityConfig)

    name: ClassVar[str] = "picture_quality"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    evaluation: ClassVar[str] = "2"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("sharpness", pa.float32()),  # variance of the Laplacian of luminance in 0..1
            pa.field("luminance", pa.float32()),  # mean, 0..1
            pa.field("change", pa.float32()),  # mean absolute change of luminance per second; null: nothing before
            pa.field("frozen_s", pa.float32()),  # how long the picture has been exactly the same, at most `longest_s`
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `PictureQualityConfig`."""
        return cls(parse_settings(PictureQualityConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration and OpenCV's major version."""
        return fingerprint(self.name, self.version, self.settings(), libraries=("opencv-python-headless",))

    def cameras(self, contract: Contract) -> tuple[str, ...]:
        """Return the cameras measured."""
        return tuple(c.name for c in colour_cameras(contract, self.config.cameras, eyes=True))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the cameras it looks at."""
        return tuple(f"rgb:{c}" for c in self.cameras(contract))

    def needs(self, contract: Contract) -> Needs:
        """Ask for every picture of its cameras, small; nothing reaches further back than the longest time it counts."""
        size = (self.config.side, self.config.side)
        reach = max(self.config.change_s, self.config.longest_s)
        return Needs(tuple(Look(c, size) for c in self.cameras(contract)), context_s=reach)

    def run(self, batch: Batch) -> pa.Table:
        """Measure what every step sees."""
        cameras = [c for c in self.cameras(batch.contract) if c in batch.clips]
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        if not cameras:
            return nothing(self, batch, NO_CAMERA)
        rows, values = list[I64](), list[npt.NDArray[np.float64]]()
        for camera in cameras:
            for episode, clip in enumerate(batch.clips[camera]):
                rows.append(np.arange(batch.starts[episode], batch.starts[episode + 1]))
                values.append(_per_step(clip, self.measure(clip)))
        return self._table(batch, cameras, np.concatenate(rows), np.concatenate(values, axis=1))

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure how well blurred and frozen pictures are told from these; see `annotators.pictures.evaluation`."""
        from annotators.pictures.evaluation import evaluate_pictures

        return evaluate_pictures(self.measure, heldout, self.cameras(heldout.contract))

    def measure(self, clip: Clip) -> Measured:
        """Measure every picture of a clip."""
        return measure(clip, self.config.change_s, self.config.still_below, self.config.longest_s)

    def _table(self, batch: Batch, cameras: list[str], rows: I64, values: npt.NDArray[np.float64]) -> pa.Table:
        """Lay out one row per step and camera, by step."""
        which = np.repeat(np.arange(len(cameras)), batch.steps.num_rows)
        order = np.lexsort((which, rows))
        rows, which, values = rows[order], which[order], values[:, order]
        valid = np.isfinite(values[0])
        own = {f.name: pa.array(v.astype(np.float32), mask=~np.isfinite(v)) for f, v in zip(self.provides, values, strict=True)}
        reasons = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32), mask=valid), pa.array([NO_PICTURE]))
        seen_by = pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(cameras, pa.string()))
        return span_table(self, batch, rows, rows + 1, reasons, own, camera=seen_by)


def _per_step(clip: Clip, found: Measured) -> npt.NDArray[np.float64]:
    """Return float64[4, T]: what each step sees; NaN where it sees nothing."""
    values = np.full((4, len(clip.seen)), np.nan)
    has = clip.seen >= 0
    for row, column in enumerate((found.sharpness, found.luminance, found.change, found.frozen_s)):
        values[row, has] = column[clip.seen[has]]
    return values
