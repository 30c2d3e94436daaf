"""One candidate pair as filters look at it, and everything measured about it, each thing when it is first asked for."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from annotators.triplets.camera import Shift, border_shift, fast_flow
from annotators.triplets.change import (
    Part,
    changed_pixels,
    distance,
    in_order,
    joined,
    lab,
    parts_of,
    similarity,
    widened,
)
from annotators.triplets.config import SIDE, TripletsConfig
from transforms.grid import BOOL
from transforms.optical_flow import LEAST

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
AROUND = 3  # pixels a robot's mask is widened by
PATCH = 8  # pixels around the robot in which flow is not the background's
HALO = 5  # pixels around a change that its surroundings do not count


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of one camera and what is known about them.

    Attributes:
        source: RGB uint8[H, W, 3].
        target: of the same size.
        prompt: what was done.
        before: a moment before the source; None where nothing was recorded.
        after: a moment after the target.
        robot: where the robot is in source and target, bool[H, W] each; None where that is not known.
        moved: how many things moved or changed, where a simulator tells; None where nobody does.
        opened: how much the gripper opened from source to target, -1 to 1; None where there is none.
        phase: of the segment it comes from.
        kind: of the edit, where it is known beforehand.
    """

    source: U8
    target: U8
    prompt: str | None
    before: U8 | None = None
    after: U8 | None = None
    robot: tuple[BOOL, BOOL] | None = None
    moved: int | None = None
    opened: float | None = None
    phase: str = ""
    kind: str = ""


@dataclass
class Evidence:
    """Measurements of one pair, at a size whose longer side is `SIDE`."""

    pair: Pair
    config: TripletsConfig = field(default_factory=TripletsConfig)

    @cached_property
    def source(self) -> U8:
        """The source at working size."""
        return at_working_size(self.pair.source)

    @cached_property
    def target(self) -> U8:
        """The target at working size, brought to the source's exposure where they differ."""
        picture = at_working_size(self.pair.target)
        if self.gain == 1.0:
            return picture
        return np.clip(picture.astype(np.float32) * np.float32(self.gain), 0, 255).astype(np.uint8)

    @cached_property
    def gain(self) -> float:
        """What the target's brightness is multiplied with: the median ratio of the pictures where their means differ, else 1."""
        a, b = (grey(at_working_size(p)) for p in (self.pair.source, self.pair.target))
        if abs(float(a.mean()) - float(b.mean())) < self.config.least_light_change * 255:
            return 1.0
        return float(np.median((a.astype(np.float32) + 1) / (b.astype(np.float32) + 1)))

    @cached_property
    def greys(self) -> tuple[U8, U8]:
        """Luminance of both."""
        return grey(self.source), grey(self.target)

    @cached_property
    def sharpness(self) -> tuple[float, float]:
        """Variance of the Laplacian of both luminances in 0..1."""
        import cv2

        a, b = (float(cv2.Laplacian(g, cv2.CV_32F).var()) / 255**2 for g in self.greys)
        return a, b

    @cached_property
    def flow(self) -> F32:
        """Motion from source to target."""
        return fast_flow(*self.greys)

    @cached_property
    def camera(self) -> Shift:
        """Motion of the camera."""
        return border_shift(self.flow, self.greys[0], None if self.pair.robot is None else widened(self.robot, PATCH))

    @cached_property
    def labs(self) -> tuple[U8, U8]:
        """Both in Lab, packed."""
        return lab(self.source), lab(self.target)

    @cached_property
    def change(self) -> BOOL:
        """Every changed pixel."""
        return changed_pixels(self.apart, self.flow, self.camera, self.config)

    @cached_property
    def apart(self) -> F32:
        """Squared distance of every pixel's colours in Lab."""
        return distance(*self.labs)

    @cached_property
    def robot(self) -> BOOL:
        """Where the robot is in either picture; nowhere, where that is not known."""
        if self.pair.robot is None:
            return np.zeros(self.source.shape[:2], bool)
        a, b = (masks_at(mask, self.greys[0].shape) for mask in self.pair.robot)
        return widened(a | b, AROUND)

    @cached_property
    def outside(self) -> BOOL:
        """Changed pixels that are not the robot's."""
        return self.change & ~self.robot

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Parts of the change outside of the robot; those next to it are one, for it touches one thing and hides its middle."""
        found = parts_of(self.outside, self.config.least_part)
        near = widened(self.robot, HALO)
        touched = [p for p in found if (p.mask & near).any()]
        if len(touched) < 2:
            return found
        return in_order([joined(touched), *(p for p in found if not any(p is t for t in touched))])

    @cached_property
    def light(self) -> float:
        """Median distance in Lab of what did not change, half of it taken: another light is seen everywhere."""
        rest = ~widened(self.change | self.robot, HALO)
        return float(np.sqrt(np.median(self.apart[rest][::2]))) if rest.any() else 0.0

    @cached_property
    def likeness(self) -> tuple[float, float]:
        """Structural similarity outside of change and robot, and of the whole; 1 where nothing is outside."""
        found = similarity(*self.greys)
        rest = ~widened(self.change | self.robot, HALO)
        return (float(found[rest].mean()) if rest.any() else 1.0), float(found.mean())

    def restless(self, near: U8 | None, *, at_target: bool) -> float:
        """Return how much of what changed moves around an end: median motion in pixels, or 1 where a tenth of it changes colour."""
        mask = np.logical_or.reduce([p.mask for p in self.parts]) if self.parts else self.outside
        if near is None or not mask.any():
            return 0.0
        lit, picture = self._lit(near, at_target=at_target), (self.target if at_target else self.source)
        rows, columns = _around(mask)
        apart = distance(lab(picture[rows, columns]), lab(lit[rows, columns]))[mask[rows, columns]]
        if float((apart > self.config.lab**2).mean()) > 0.1:
            return 1.0
        flow = fast_flow(grey(picture[rows, columns]), grey(lit[rows, columns]))
        return float(np.median(np.hypot(*np.moveaxis(flow[mask[rows, columns]], -1, 0))))

    def _lit(self, picture: U8, *, at_target: bool) -> U8:
        found = at_working_size(picture)
        if self.gain == 1.0 or not at_target:
            return found
        return np.clip(found.astype(np.float32) * np.float32(self.gain), 0, 255).astype(np.uint8)


def grey(picture: U8) -> U8:
    """Return the luminance uint8[H, W] of RGB uint8[H, W, 3]."""
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def at_working_size(picture: U8) -> U8:
    """Return a picture whose longer side is `SIDE`; others are scaled."""
    import cv2

    height, width = picture.shape[:2]
    if max(height, width) == SIDE:
        return picture
    scale = SIDE / max(height, width)
    size = (max(round(width * scale), LEAST), max(round(height * scale), LEAST))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)


def masks_at(mask: BOOL, size: tuple[int, ...]) -> BOOL:
    """Return a mask at another size, the nearest pixel of each."""
    import cv2

    if mask.shape == size:
        return mask
    return cv2.resize(mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST) > 0


def _around(mask: BOOL, margin: int = 16, least: int = 96) -> tuple[slice, slice]:
    """Return the box of a mask with a margin, at least `least` pixels a side where the picture has them."""
    slices: list[slice] = []
    for axis, length in enumerate(mask.shape):
        places = np.flatnonzero(mask.any(1 - axis))
        low, high = int(places[0]) - margin, int(places[-1]) + 1 + margin
        grow = max(least - (high - low), 0)
        low, high = max(low - grow // 2, 0), min(high + grow - grow // 2, length)
        slices.append(slice(min(low, max(high - least, 0)), max(high, min(low + least, length))))
    return slices[0], slices[1]
