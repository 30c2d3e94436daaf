"""Pictures to learn from, decoded and small, and which two of them make a pair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from annotators.clips import Clip
from transforms.grid import BOOL, I64
from transforms.horizon import ahead
from transforms.optical_flow import dense_flow, grey
from transforms.permutation import permutation

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
F16 = npt.NDArray[np.float16]
KEPT_BYTES = 512 << 20  # of flow that a pool remembers


@dataclass(frozen=True, slots=True)
class Sample:
    """One batch of pairs.

    Attributes:
        first: RGB uint8[B, S, S, 3], the earlier pictures.
        second: the later ones.
        horizon: int64[B], which horizon lies between.
        on_hand: bool[B], whether the camera moves with the agent.
        agent: bool[B, S, S], where the agent is in either picture; None where nobody knows.
        backward: float32[B, 2, S, S], flow from the later to the earlier picture, in pixels; None where nobody asked.
        forward: the same from the earlier one.
        label: float32[B, A], true actions, NaN where there are none; None where nobody has any.
    """

    first: U8
    second: U8
    horizon: I64
    on_hand: BOOL
    agent: BOOL | None = None
    backward: F32 | None = None
    forward: F32 | None = None
    label: F32 | None = None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Pool:
    """Pairs of pictures in memory.

    Attributes:
        pictures: RGB uint8[F, S, S, 3].
        first: int64[P], the earlier picture of each pair.
        second: int64[P], the later one.
        horizon: int64[P], which horizon lies between.
        on_hand: bool[P], whether the camera moves with the agent.
        agent: bool[F, S, S], where the agent is; None where nobody knows.
        label: float32[P, A], true actions, NaN where there are none; None where nobody has any.
    """

    pictures: U8
    first: I64
    second: I64
    horizon: I64
    on_hand: BOOL
    agent: BOOL | None = None
    label: F32 | None = None
    flows: dict[int, F16] = field(default_factory=dict[int, F16], compare=False, repr=False)  # of pairs seen before

    def __len__(self) -> int:
        return len(self.first)

    def sample(self, rows: I64, *, flow: bool = False, both: bool = False) -> Sample:
        """Return some pairs, with the flow back from their later pictures, and the one there, if they are asked for."""
        a, b = self.first[rows], self.second[rows]
        first, second = self.pictures[a], self.pictures[b]
        back, there = self._flows(rows, both) if flow or both else (None, None)
        agent = None if self.agent is None else self.agent[a] | self.agent[b]
        label = None if self.label is None else self.label[rows]
        return Sample(first, second, self.horizon[rows], self.on_hand[rows], agent, back, there, label)

    def _flows(self, rows: I64, both: bool) -> tuple[F32, F32 | None]:
        """Return the flows of some pairs, in half precision; each pair's is found once and remembered while there is room."""
        found = list[F16]()
        for row in rows.tolist():
            flow = self.flows.get(row)
            if flow is None or len(flow) <= both:
                flow = flows(self.pictures[self.first[row]], self.pictures[self.second[row]], both=both).astype(np.float16)
                if (len(self.flows) + 1) * flow.nbytes <= KEPT_BYTES:
                    self.flows[row] = flow
            found.append(flow)
        back = np.stack([f[0] for f in found]).astype(np.float32)
        return back, np.stack([f[1] for f in found]).astype(np.float32) if both else None

    def order(self, batch: int, seed: int, epoch: int) -> Iterator[I64]:
        """Yield rows of whole batches in an order that seed and epoch name; the few left over wait for the next epoch."""
        if len(self) < batch:
            return
        rows = permutation(len(self), f"latent {seed} {epoch}".encode())
        for start in range(0, len(self) - batch + 1, batch):
            yield rows(np.arange(start, start + batch))


def pairs_of(t_ns: I64, horizons_s: Sequence[float]) -> tuple[I64, I64, I64]:
    """Return every pair of one clip's pictures that lie a horizon apart: first int64[P], second, horizon; by horizon.

    Args:
        t_ns: int64[N], when each picture is shown.
        horizons_s: seconds between the two.
    """
    found = [ahead(t_ns, np.array([0, len(t_ns)]), h) if len(t_ns) else (t_ns, np.empty(0, bool)) for h in horizons_s]
    first = [np.flatnonzero(valid & (second > np.arange(len(t_ns)))) for second, valid in found]
    second = [s[f] for (s, _), f in zip(found, first, strict=True)]
    return np.concatenate(first), np.concatenate(second), np.repeat(np.arange(len(horizons_s)), [len(f) for f in first])


def pool_of(
    clips: Sequence[Clip], horizons_s: Sequence[float], side: int, on_hand: Sequence[bool] = (), agents: Sequence[BOOL] = ()
) -> Pool:
    """Return every pair of some clips.

    Args:
        clips: pictures of any size.
        horizons_s: seconds between two pictures of a pair.
        side: of the pictures to learn from.
        on_hand: for each clip, whether its camera moves with the agent; empty: none does.
        agents: for each clip, where the agent is, see `agent_in`; empty: nobody knows.
    """
    pictures, rows, moves, base = list[U8](), list[npt.NDArray[np.int64]](), list[BOOL](), 0
    for clip, hand in zip(clips, on_hand or [False] * len(clips), strict=True):
        first, second, horizon = pairs_of(clip.t_ns, horizons_s)
        pictures.append(squares(clip.pictures, side))
        rows.append(np.stack([first + base, second + base, horizon]))
        moves.append(np.full(len(first), hand))
        base += len(clip)
    first, second, horizon = np.concatenate(rows, 1) if rows else np.empty((3, 0), np.int64)
    whole = np.concatenate(pictures) if pictures else np.empty((0, side, side, 3), np.uint8)
    hands = np.concatenate(moves) if moves else np.empty(0, bool)
    return Pool(whole, first, second, horizon, hands, np.concatenate(agents) if agents else None)


def agent_in(clip: Clip, masks: Clip | None, values: Sequence[int], side: int) -> BOOL:
    """Return where the agent is in each picture of a clip, bool[N, S, S]: as the mask that was taken last says, nowhere before the first.

    Args:
        clip: the pictures.
        masks: segmentation of the same camera; None where there is none.
        values: which of its values are the agent.
        side: S.
    """
    import cv2

    found = np.zeros((len(clip), side, side), bool)
    if masks is None or not len(masks) or not len(clip):
        return found
    small = [cv2.resize(m, (side, side), interpolation=cv2.INTER_NEAREST) for m in masks.pictures]
    known = np.isin(np.stack(small), values)
    last = np.searchsorted(masks.t_ns, clip.t_ns, side="right") - 1
    found[last >= 0] = known[last[last >= 0]]
    return found


def squares(pictures: U8, side: int) -> U8:
    """Return pictures uint8[N, H, W, 3] stretched to squares of one side; those of that size as they are."""
    import cv2

    if not len(pictures):
        return np.empty((0, side, side, 3), np.uint8)
    if pictures.shape[1:3] == (side, side):
        return pictures
    way = cv2.INTER_AREA if pictures.shape[1] >= side and pictures.shape[2] >= side else cv2.INTER_LINEAR
    return np.stack([cv2.resize(p, (side, side), interpolation=way) for p in pictures])


def flows(first: U8, second: U8, *, both: bool) -> F32:
    """Return the flow back from the later picture uint8[S, S, 3], and the one there: float32[1 or 2, 2, S, S], in pixels, across first."""
    a, b = grey(first), grey(second)
    found = [dense_flow(b, a), dense_flow(a, b)] if both else [dense_flow(b, a)]
    return np.moveaxis(np.stack(found), 3, 1)
