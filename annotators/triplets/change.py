"""What changed between two pictures, as far as pixels tell: a mask, its parts, and whether one part is where another came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.triplets.camera import Shift
from annotators.triplets.config import TripletsConfig
from transforms.grid import BOOL
from transforms.rotation import F64

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
BRIDGE = 7  # pixels: pieces this near to each other are one part
BINS = 8
FRAME = 8  # pixels around a part that its surroundings are in
WINDOW = 7  # of structural similarity
UNITS = np.array([[(100 / 255) ** 2, 1.0, 1.0]], np.float32)
BALANCE = 0.2
DARK, ONE_FACTOR = 20, 0.15  # levels that say nothing of a factor; largest spread of its logarithm
GROUND = 0.25


@dataclass(frozen=True, slots=True)
class Part:
    """One connected part of a change.

    Attributes:
        mask: bool[H, W], its changed pixels.
        area: share of the picture.
        box: x0, y0, x1, y1, pixels, half-open.
        centre: x, y, pixels.
    """

    mask: BOOL
    area: float
    box: tuple[int, int, int, int]
    centre: tuple[float, float]


def lab(picture: U8) -> U8:
    """Return CIE L*a*b* uint8[H, W, 3] of RGB as OpenCV packs it: L from 0 to 255, a and b shifted by 128."""
    import cv2

    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB), np.uint8)


def distance(a: U8, b: U8) -> F32:
    """Return the squared Euclidean distance of two packed Lab pictures in Lab's own units (L 0 to 100), float32[H, W]."""
    import cv2

    apart = cv2.absdiff(a, b).astype(np.float32)
    return np.asarray(cv2.transform(cv2.multiply(apart, apart), UNITS), np.float32)


def changed_pixels(apart: F32, flow: F32, camera: Shift, config: TripletsConfig) -> BOOL:
    """Return which pixels changed: in colour, or, around such, by motion against the background with some colour.

    Single pixels are opened away.

    Args:
        apart: `distance` of the pictures.
        flow: motion from one to the other.
        camera: motion of the background.
        config: thresholds.
    """
    import cv2

    moved = cv2.magnitude(flow[..., 0] - camera.dx, flow[..., 1] - camera.dy) > config.flow_px
    opened = cv2.morphologyEx((apart > config.lab**2).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    plain = np.asarray(opened, np.uint8)
    mask = plain | (moved & (apart > (config.lab / 3) ** 2)).astype(np.uint8)
    count, found = cv2.connectedComponents(mask, connectivity=4)
    labels = np.asarray(found, np.int32)
    return np.bincount(labels.ravel(), plain.ravel(), count)[labels] > 0  # faint changes only around plain ones


def widened(mask: BOOL, by: int) -> BOOL:
    """Return a mask grown by `by` pixels in every direction."""
    import cv2

    if not mask.any():
        return mask
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0


def parts_of(mask: BOOL, least: float) -> tuple[Part, ...]:
    """Return the parts of a change of at least `least` of the picture, largest first; near pieces are bridged."""
    import cv2

    count, labels = cv2.connectedComponents(widened(mask, BRIDGE // 2).astype(np.uint8), connectivity=8)
    found: list[Part] = []
    for number in range(1, count):
        own = mask & (labels == number)
        if float(own.mean()) >= least:
            found.append(part_of(own))
    return in_order(found)


def part_of(mask: BOOL) -> Part:
    """Return a mask as one part."""
    rows, columns = np.nonzero(mask)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Part(mask, float(mask.mean()), box, (float(columns.mean()), float(rows.mean())))


def joined(parts: Sequence[Part]) -> Part:
    """Return several parts as one."""
    return part_of(np.logical_or.reduce([p.mask for p in parts]))


def in_order(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return parts by size, largest first."""
    return tuple(sorted(parts, key=lambda p: (-p.area, p.box)))


def colours(picture: U8, mask: BOOL, part: Part) -> F64:
    """Return the colour histogram float64[512] of the masked pixels in and around a part; sums to 1."""
    import cv2

    x0, y0, x1, y1 = part.box
    here = slice(max(y0 - FRAME, 0), y1 + FRAME), slice(max(x0 - FRAME, 0), x1 + FRAME)
    inside = mask[here].astype(np.uint8)
    counts = cv2.calcHist([picture[here]], [0, 1, 2], inside, [BINS] * 3, [0, 256] * 3).astype(np.float64).ravel()
    return counts / max(float(counts.sum()), 1.0)


def overlap(a: F64, b: F64) -> float:
    """Return the share two histograms have in common, 0 to 1."""
    return float(np.minimum(a, b).sum())


def came_from(source: U8, target: U8, a: Part, b: Part) -> float:
    """Tell how well "what was at `a` is now at `b`" explains two parts, 0 to 1.

    What `a` showed is what `b` shows, and `a` no longer shows it: two alike things that each moved a little still show themselves.
    What is left at `a`, or was at `b`, looks like what is around it: two things that exchanged their colours leave no ground.
    """
    bigger, smaller = max(a.area, b.area), min(a.area, b.area)
    if smaller * 3 < bigger:
        return 0.0
    gone, came, left, was = (
        colours(picture, p.mask, p) for picture, p in ((source, a), (target, b), (target, a), (source, b))
    )  # fmt: skip
    same, stays = overlap(gone, came), overlap(gone, left)
    bare = max(overlap(left, colours(target, ring(a), a)), overlap(was, colours(source, ring(b), b)))
    return same if same > stays + 0.1 and bare > GROUND else 0.0


def ring(part: Part) -> BOOL:
    """Return the pixels around a part."""
    return widened(part.mask, 6) & ~widened(part.mask, 2)


def similarity(a: U8, b: U8) -> F32:
    """Return the structural similarity map float32[H, W] of two luminance pictures (Wang and others, 2004; uniform window)."""
    import cv2

    x, y = a.astype(np.float32), b.astype(np.float32)

    def mean(values: F32) -> F32:
        return np.asarray(cv2.blur(values, (WINDOW, WINDOW)), np.float32)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = ((2 * mx * my + c1) * (2 * both + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return found.astype(np.float32)


def similar_edges(source: U8, target: U8, part: Part) -> float:
    """Return how alike the gradients of two luminance pictures are inside a part's box, -1 to 1: a repainted thing keeps its edges."""
    import cv2

    x0, y0, x1, y1 = part.box
    sizes: list[F64] = []
    for picture in (source, target):
        cut = picture[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3]
        slopes = [cv2.Sobel(cut, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))]
        sizes.append(np.minimum(np.hypot(*slopes), 80.0).ravel().astype(np.float64))
    a, b = (s - s.mean() for s in sizes)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def is_shading(source: U8, target: U8, part: Part) -> bool:
    """Tell whether a part of two RGB pictures only became brighter or darker: all its channels by about one factor, pixel by pixel."""
    here, there = (p[part.mask].astype(np.float64) for p in (source, target))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where((here > DARK) & (there > DARK), np.log(there / here), np.nan)
    told = np.isfinite(factor).sum(1) >= 2
    if told.mean() < 0.5:
        return False
    known = factor[told]
    return float(np.median(np.nanmax(known, 1) - np.nanmin(known, 1))) < ONE_FACTOR


@dataclass(frozen=True, slots=True)
class Exchange:
    """How the pixels of a part changed: two sets that exchanged colours, as when a thing goes and its background comes.

    Attributes:
        balanced: whether both sets hold at least `BALANCE` of the pixels; a repainted, added or removed thing changes one way only.
        dx: from where the thing left to where it came, pixels to the right.
        dy: downwards.
        size: square root of the part's number of pixels.
    """

    balanced: bool
    dx: float
    dy: float
    size: float


def exchange(source: U8, target: U8, part: Part) -> Exchange:
    """Read which pixels of a part a thing left and which it came to.

    Colours change by `d` where it left and by `-d` where it came, so the first axis of all changes tells the two sets apart; the thing
    is what differs more from the part's surroundings.

    Args:
        source: packed Lab uint8[H, W, 3].
        target: the same.
        part: of the change.
    """
    here, there = source[part.mask].astype(np.float64), target[part.mask].astype(np.float64)
    step = there - here
    _, axes = np.linalg.eigh(step.T @ step)
    rises = step @ axes[:, -1] > 0
    share, (rows, columns) = float(rises.mean()), np.nonzero(part.mask)
    size = float(np.sqrt(len(rows)))
    if not BALANCE <= share <= 1 - BALANCE:
        return Exchange(False, 0.0, 0.0, size)
    edge = source[ring(part)]
    around = np.median(edge, 0) if len(edge) else np.median(here, 0)
    # the set whose source differs from the surroundings more than its target does is where the thing was
    was = np.linalg.norm(here - around, axis=1) - np.linalg.norm(there - around, axis=1)
    left = rises if was[rises].mean() > was[~rises].mean() else ~rises
    places = np.stack([columns, rows], 1).astype(np.float64)
    dx, dy = places[~left].mean(0) - places[left].mean(0)
    return Exchange(True, float(dx), float(dy), size)
