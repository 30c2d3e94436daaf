"""The hand of a robot along an episode: where its tip is, how it is turned, how far it is open, and when it opens or closes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.motion.read import read_slots
from annotators.motion.source import MotionSource, find_source
from schemas.contract import Contract
from transforms.grid import BOOL
from transforms.rotation import F64, apply, as_quat

I8 = npt.NDArray[np.int8]
SWING = 0.2  # of full scale: a gripper that moves less does not open or close


@dataclass(frozen=True, slots=True)
class Hand:
    """One hand over every step of a batch.

    Attributes:
        tip: float64[3, T] metres, in the frame of the contract.
        turn: float64[4, T] quaternions wxyz; None where the contract tells none.
        opening: float64[T], 1 is open; None where there is no gripper.
        event: int8[T]: -1 where it closes, 1 where it opens.
        finite: bool[T].
    """

    tip: F64
    turn: F64 | None
    opening: F64 | None
    event: I8
    finite: BOOL

    def part(self, a: int, b: int) -> "Hand":
        """Return its steps `[a, b)`."""
        turn = None if self.turn is None else self.turn[:, a:b]
        opening = None if self.opening is None else self.opening[a:b]
        return Hand(self.tip[:, a:b], turn, opening, self.event[a:b], self.finite[a:b])


def hand_source(contract: Contract) -> MotionSource | None:
    """Return where an absolute end-effector position is measured; None where it is not."""
    source = find_source(contract, "proprio")
    return source if source is not None and source.arms and source.arms[0].position.representation == "absolute" else None


def read_hand(batch: Batch, source: MotionSource, offset: tuple[float, float, float]) -> Hand:
    """Read the first arm of a batch; `offset` is the tip in the hand's own axes, metres, where rotations are known."""
    arm = source.arms[0]
    values, finite, _ = read_slots(batch, source)
    tip, turn = values[arm.position], None
    if arm.rotation is not None and arm.rotation.rotation is not None and arm.rotation.representation == "absolute":
        turn = as_quat(values[arm.rotation], arm.rotation.rotation)
        tip = tip + apply(turn, np.tile(np.array(offset, np.float64)[:, None], (1, tip.shape[1])))
    opening = None if arm.gripper is None else values[arm.gripper].mean(0)
    event = np.zeros(batch.steps.num_rows, np.int8)
    if opening is not None:
        for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
            event[a:b] = grip_events(np.where(finite[a:b], opening[a:b], np.nan))
    return Hand(tip, turn, opening, event, finite)


def grip_events(opening: F64) -> I8:
    """Return where a gripper passes the middle of its swing, int8[T]: -1 closing, 1 opening; a tenth of the swing is hysteresis."""
    event = np.zeros(len(opening), np.int8)
    known = opening[np.isfinite(opening)]
    if not len(known) or np.ptp(known) < SWING:
        return event
    middle, band = (known.max() + known.min()) / 2, np.ptp(known) / 10
    side = 0
    for at, value in enumerate(opening.tolist()):
        now = 1 if value > middle + band else -1 if value < middle - band else side
        if side and now != side:
            event[at] = now
        side = now
    return event
