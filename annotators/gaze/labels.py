"""Pictures and where somebody looked in them, ready for a model to learn from or to be judged by: fixations only, of one kind only.

Recorded gaze and a robot's pseudo-gaze never come together here: `joined` refuses both at once, and so do training and evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.clips import Clip
from annotators.gaze.config import FIXATION, GazeConfig
from annotators.gaze.pseudo import PSEUDO, PseudoGaze, PseudoGazeConfig
from annotators.gaze.recorded import RECORDED, RecordedGaze
from annotators.gaze.rests import rests_of
from annotators.gaze.samples import read_samples
from annotators.gaze.source import find_gaze
from annotators.spans import episodes_of
from annotators.traces.views import recorded_pixels
from schemas.contract import Camera
from schemas.errors import UsageError
from transforms.grid import I64, SECOND
from transforms.rotation import F64
from transforms.spread import spread

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled pictures of one dataset.

    Attributes:
        pictures: uint8[P, side, side, 3], stretched to a square.
        window: int64[N, F], rows of `pictures` that lead to each label, the last one is the labelled picture.
        xy: float64[N, 2], where somebody looked, shares of the picture.
        owner: int64[N], the episode of each label.
        before: float64[N, 2], middle of the fixation before; NaN where there was none.
        hand: float64[N, 2], where the hand is; NaN where nobody says.
        source: `recorded` or `pseudo_intent`.
        episodes: ids.
        camera: whose pictures.
    """

    pictures: U8
    window: I64
    xy: F64
    owner: I64
    before: F64
    hand: F64
    source: str
    episodes: tuple[str, ...]
    camera: Camera

    def __len__(self) -> int:
        return len(self.xy)


def label(batch: Batch, camera: Camera, frames: int, hz: float, side: int, gaze: GazeConfig | None = None, kind: str = RECORDED) -> Labelled | str:  # fmt: skip
    """Label the pictures of a batch that were taken during fixations.

    Args:
        batch: with clips of the camera and the signals of gaze.
        camera: whose pictures.
        frames: pictures that lead to a label, itself included.
        hz: how many of them per second.
        side: of the square that pictures are stretched to.
        gaze: how recorded gaze is read.
        kind: `recorded` or `pseudo_intent`.

    Returns:
        The labels, or why there are none.
    """
    if camera.name not in batch.clips:
        return "no_pictures"
    points = _recorded(batch, gaze or GazeConfig()) if kind == RECORDED else _pseudo(batch, camera)
    if isinstance(points, str):
        return points
    place, before = points
    pictures, windows, rows, owners = list[U8](), list[I64](), list[I64](), list[I64]()
    base = 0
    for e, clip in enumerate(batch.clips[camera.name]):
        if not len(clip):
            continue
        at = int(batch.starts[e]) + clip.step
        keep = np.flatnonzero(np.isfinite(place[at]).all(1))
        pictures.append(squared(clip, side))
        windows.append(base + windows_of(clip, frames, hz)[keep])
        rows.append(at[keep])
        owners.append(np.full(len(keep), e, np.int64))
        base += len(clip)
    if not rows or not sum(map(len, rows)):
        return "no_fixation_in_pictures"
    row = np.concatenate(rows)
    return Labelled(
        np.concatenate(pictures), np.concatenate(windows), place[row], np.concatenate(owners), before[row],
        hands(batch, camera)[row], kind, batch.episodes, camera,
    )  # fmt: skip


def joined(parts: Sequence[Labelled]) -> Labelled:
    """Lay labels of several batches together.

    Raises:
        UsageError: there are none, they are of different kinds, or their pictures differ in size.
    """
    if not parts:
        raise UsageError("no labelled pictures: annotate recordings with gaze and a scene camera, or name other ones")
    kinds = sorted({p.source for p in parts})
    if len(kinds) > 1:
        raise UsageError(
            f"gaze of different kinds ({', '.join(kinds)}) is never mixed: nobody looked where a robot's pseudo-gaze is"
        )
    if len({p.pictures.shape[1:] for p in parts}) > 1:
        raise UsageError("labelled pictures differ in size; label them with one `side`")
    pictures = np.cumsum([0, *(len(p.pictures) for p in parts)])
    episodes = np.cumsum([0, *(len(p.episodes) for p in parts)])
    first = parts[0]
    return Labelled(
        np.concatenate([p.pictures for p in parts]), np.concatenate([p.window + o for p, o in zip(parts, pictures, strict=False)]),
        np.concatenate([p.xy for p in parts]), np.concatenate([p.owner + o for p, o in zip(parts, episodes, strict=False)]),
        np.concatenate([p.before for p in parts]), np.concatenate([p.hand for p in parts]), first.source,
        tuple(e for p in parts for e in p.episodes), first.camera,
    )  # fmt: skip


def thinned(labelled: Labelled, pictures: int) -> Labelled:
    """Return labels spread evenly over the recording, so few that no more than `pictures` are needed (one window at least)."""
    if len(labelled.pictures) <= pictures:
        return labelled
    rows = spread(len(labelled), max(1, pictures // labelled.window.shape[1]))
    used, place = np.unique(labelled.window[rows], return_inverse=True)
    return replace(
        labelled, pictures=labelled.pictures[used], window=place.reshape(len(rows), -1).astype(np.int64), xy=labelled.xy[rows],
        owner=labelled.owner[rows], before=labelled.before[rows], hand=labelled.hand[rows],
    )  # fmt: skip


def windows_of(clip: Clip, frames: int, hz: float) -> I64:
    """Return the pictures that lead to each picture at even steps of time, int64[N, frames]; the first one stands for those before it."""
    back = np.rint(np.arange(frames - 1, -1, -1) * (SECOND / hz)).astype(np.int64)
    wanted = clip.t_ns[:, None] - back[None] + SECOND // 1000
    return np.maximum(np.searchsorted(clip.t_ns, wanted, side="right") - 1, 0)


def squared(clip: Clip, side: int) -> U8:
    """Return the pictures of a clip stretched to a square, uint8[N, side, side, 3]."""
    if not len(clip) or clip.pictures.shape[1:3] == (side, side):
        return np.asarray(
            clip.pictures.reshape(len(clip), *(clip.pictures.shape[1:] if len(clip) else (side, side, 3))), np.uint8
        )
    import cv2

    shrinks = side <= min(clip.pictures.shape[1:3])
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([np.asarray(cv2.resize(p, (side, side), interpolation=way), np.uint8) for p in clip.pictures])


def hands(batch: Batch, camera: Camera) -> F64:
    """Return where the hand is in the picture at every step, float64[T, 2] shares; NaN where nobody says."""
    found = np.full((batch.steps.num_rows, 2), np.nan)
    if batch.streams is None or not camera.width or not camera.height:
        return found
    for e in range(len(batch.episodes)):
        pixels = recorded_pixels(batch, e, camera)
        if pixels is not None:
            found[batch.starts[e] : batch.starts[e + 1]] = (pixels.T + 0.5) / [camera.width, camera.height]
    return found


def _recorded(batch: Batch, config: GazeConfig) -> tuple[F64, F64] | str:
    """Return where was looked at every step, and the middle of the fixation before, float64[T, 2] each; NaN outside of fixations."""
    source = find_gaze(batch.contract, config)
    if isinstance(source, str):
        return source
    rows = RecordedGaze(config).run(batch)
    fixated = rows.column("valid").to_numpy() & (rows.column("type").fill_null(255).to_numpy() == FIXATION)
    xy = np.array([v if v is not None else (np.nan, np.nan) for v in rows.column("xy").to_pylist()], np.float64)
    place, before = np.where(fixated[:, None], xy, np.nan), np.full(xy.shape, np.nan)
    number = rows.column("fix_id").fill_null(-1).to_numpy()
    owner = episodes_of(rows, batch)
    for e in range(len(batch.episodes)):
        rests = rests_of(batch, e, read_samples(batch, e, source, config))
        for earlier, now in pairwise(rests):
            before[(owner == e) & (number == now.number)] = earlier.xy
    return place, before


def _pseudo(batch: Batch, camera: Camera) -> tuple[F64, F64] | str:
    annotator = PseudoGaze(PseudoGazeConfig(camera=camera.name))
    why = annotator.usable(batch.contract)
    if isinstance(why, str):
        return why
    rows = annotator.run(batch)
    kinds = {s for s in rows.column("source").to_pylist() if s}
    assert kinds <= {PSEUDO}
    xy = np.array([v if v is not None else (np.nan, np.nan) for v in rows.column("xy").to_pylist()], np.float64)
    return xy, np.full(xy.shape, np.nan)
