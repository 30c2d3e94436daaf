"""Pictures and irregular signals an annotator asks for, and how it gets them. Nothing here decodes: pipelines fill the clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from transforms.grid import BOOL, I64

BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024)
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """Pictures of one camera an annotator wants.

    Attributes:
        camera: its name in the contract; depth and segmentation cameras give integer images.
        size: height and width pictures are scaled into, their aspect kept and nothing padded; never enlarged. None: as recorded.
        hz: at most this many pictures per second, picked by time; None: all.
    """

    camera: str
    size: tuple[int, int] | None = None
    hz: float | None = None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"size={self.size} of camera {self.camera} leaves no picture")
        if self.hz is not None and not self.hz > 0:
            raise UsageError(
                f"hz={self.hz} of camera {self.camera} makes no sense; use a positive rate, or None for every picture"
            )


def colour_cameras(contract: Contract, chosen: Sequence[str] = (), *, eyes: bool = False) -> tuple[Camera, ...]:
    """Return the cameras that show the scene in colour and are not privileged, in the contract's order.

    Args:
        contract: of the dataset.
        chosen: names to keep; none: all.
        eyes: also those that look into eyes.
    """
    blind = ("depth", "segmentation") if eyes else ("depth", "segmentation", "eye")
    return tuple(c for c in contract.cameras if c.role not in blind and not c.privileged and (not chosen or c.name in chosen))


@dataclass(frozen=True, slots=True)
class Needs:
    """What an annotator needs beside the steps.

    Attributes:
        looks: cameras to decode.
        streams: irregular signals, by their name in the contract.
        context_s: what is said about an instant depends on nothing further away than this, so a long episode may come in parts that
            overlap by it. None: only whole episodes make sense.
    """

    looks: tuple[Look, ...] = ()
    streams: tuple[str, ...] = ()
    context_s: float | None = None


@runtime_checkable
class Watcher(Protocol):
    """An annotator that reads more than steps."""

    def needs(self, contract: Contract) -> Needs:
        """Say which pictures and signals of such a dataset it reads; nothing where it can say nothing about it."""
        ...


def needs_of(annotator: object, contract: Contract) -> Needs:
    """Return what an annotator needs beside the steps; nothing for those that do not say."""
    return annotator.needs(contract) if isinstance(annotator, Watcher) else Needs()


@runtime_checkable
class Judge(Protocol):
    """An annotator that needs more to be measured than to run."""

    def needs_to_evaluate(self, contract: Contract) -> Needs:
        """Say what `evaluate` reads of such a dataset; at least what `run` does."""
        ...


def evaluation_needs_of(annotator: object, contract: Contract) -> Needs:
    """Return what an annotator needs to be measured; what it needs to run where it does not say."""
    return annotator.needs_to_evaluate(contract) if isinstance(annotator, Judge) else needs_of(annotator, contract)


@dataclass(frozen=True, slots=True)
class Clip:
    """Pictures of one camera of one episode, in the order they are shown.

    Attributes:
        pictures: RGB uint8[N, H, W, 3]; of a depth or segmentation camera, uint8 or uint16 [N, H, W]. N is 0 where the episode has none.
        t_ns: int64[N], when each is shown, on the episode's clock.
        step: int64[N], the step of the episode each falls into: the last one that sees it or an earlier one.
        seen: int64[T], the picture each step of the episode sees; -1: none.
        stored: height and width as recorded; 0 where there are no pictures.
    """

    pictures: npt.NDArray[Any]
    t_ns: I64
    step: I64
    seen: I64
    stored: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.t_ns)

    @property
    def scale(self) -> tuple[float, float]:
        """Factors from recorded to these pixels: vertical, horizontal."""
        height, width = self.pictures.shape[1:3]
        return (height / self.stored[0], width / self.stored[1]) if len(self) else (1.0, 1.0)

    def intrinsics(self, camera: Camera) -> npt.NDArray[np.float64] | None:
        """Return the camera's matrix float64[3, 3] in pixels of these pictures (centres at integers); None where nobody states it."""
        if camera.intrinsics is None:
            return None
        vertical, horizontal = self.scale
        matrix = np.array(camera.intrinsics, np.float64).reshape(3, 3)
        matrix[0] *= horizontal
        matrix[1] *= vertical
        matrix[0, 2] += (horizontal - 1) / 2
        matrix[1, 2] += (vertical - 1) / 2
        return matrix

    def part(self, start: int, stop: int) -> "Clip":
        """Return the pictures that fall into steps `[start, stop)`, numbered as if the part were an episode; a view, no copy."""
        inside = slice(*np.searchsorted(self.step, [start, stop]).tolist())
        seen = self.seen[start:stop]
        seen = np.where((seen >= inside.start) & (seen < inside.stop), seen - inside.start, -1)
        return Clip(self.pictures[inside], self.t_ns[inside], self.step[inside] - start, seen, self.stored)


def no_clip(steps: int) -> Clip:
    """Return the clip of an episode without pictures."""
    return Clip(np.empty((0, 0, 0, 3), np.uint8), np.empty(0, np.int64), np.empty(0, np.int64), np.full(steps, -1, np.int64))


def bucket(length: int, buckets: Sequence[int] = BUCKETS) -> int:
    """Return the smallest bucket a clip of `length` pictures fits in; beyond the last, the next multiple of it."""
    fits = next((b for b in buckets if length <= b), None)
    return -(-length // buckets[-1]) * buckets[-1] if fits is None else fits


def stack(clips: Sequence[Clip], buckets: Sequence[int] = BUCKETS) -> tuple[npt.NDArray[Any], BOOL]:
    """Lay clips of one size side by side for a model that wants few different shapes.

    Returns:
        `[E, L, H, W, 3]` (or `[E, L, H, W]`) padded with zeros to the bucket of the longest, and bool[E, L]: which are pictures.

    Raises:
        UsageError: the clips differ in size.
    """
    shapes = {c.pictures.shape[1:] for c in clips if len(c)}
    if len(shapes) > 1:
        raise UsageError(f"clips of different sizes cannot be stacked: {sorted(shapes)}; take them one by one")
    shape = next(iter(shapes), (0, 0, 3))
    dtype = next((c.pictures.dtype for c in clips if len(c)), np.dtype(np.uint8))
    length = bucket(max((len(c) for c in clips), default=0), buckets)
    result, mask = np.zeros((len(clips), length, *shape), dtype), np.zeros((len(clips), length), bool)
    for row, clip in enumerate(clips):
        result[row, : len(clip)] = clip.pictures if len(clip) else 0
        mask[row, : len(clip)] = True
    return result, mask


type Clips = Mapping[str, tuple[Clip, ...]]  # per camera, one clip per episode of the batch
