"""Goals in hindsight, the way to them at several scales, and chunks of temporal-difference learning: arithmetic on steps alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from transforms.noise import seed_of

RATIO = (1.2, 3.0)  # bounds of the growth of distal steps
F32 = npt.NDArray[np.float32]


def drawn_unit(*sample_id: str | int) -> float:
    """Return a number in [0, 1), uniform over sample ids and always the same for one: a counter-based draw of 53 bits."""
    return (seed_of(*sample_id) >> 11) / (1 << 53)


def hindsight_offset(left: int, unit: float, offsets: Literal["geometric", "uniform"], gamma: float) -> int:
    """Return how many steps ahead a goal lies, 1 to `left`; 0 where no step is left.

    Args:
        left: steps between the anchor and the episode's last.
        unit: a draw from [0, 1).
        offsets: `uniform`, or `geometric`: P(k) ~ gamma^k, cut at `left`, by inversion of its distribution function.
        gamma: in (0, 1).
    """
    if left < 1:
        return 0
    if offsets == "uniform":
        return 1 + int(unit * left)
    share = 1 - unit * (1 - gamma**left)  # gamma^k falls from 1 to gamma^left
    return min(left, max(1, math.ceil(math.log(share) / math.log(gamma)))) if unit else 1


def multi_scale(ahead: int, proximal: int, distal: int) -> tuple[list[int], list[bool]]:
    """Return the steps ahead that show the way to a goal, and which of them lie beyond it.

    The first are 1 to `proximal`; then d_m = proximal + ceil((ahead - proximal) (r^m - 1) / (r^M - 1)) for m = 1 to M = `distal`,
    r = (ahead / proximal)^(1/M) within `RATIO`, each at least one more than the last; the last is the goal.

    Args:
        ahead: steps to the goal, 0 or more.
        proximal: at least 1.
        distal: at least 1.

    Returns:
        Steps int[proximal + distal], at most `ahead`, and whether each is padding; the last never is.
    """
    steps = list(range(1, proximal + 1))
    if ahead >= proximal + distal:
        ratio = min(max((ahead / proximal) ** (1 / distal), RATIO[0]), RATIO[1])
        for m in range(1, distal + 1):
            grown = proximal + math.ceil((ahead - proximal) * (ratio**m - 1) / (ratio**distal - 1))
            steps.append(min(max(grown, steps[-1] + 1), ahead - (distal - m)))
    else:
        steps += range(proximal + 1, proximal + distal + 1)
    is_pad = [step > ahead for step in steps]
    return [*(min(step, ahead) for step in steps[:-1]), ahead], [*is_pad[:-1], False]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of temporal-difference learning: a target is `reward + discount * V(observation after `steps`)`."""

    steps: int
    reward: float
    discount: float
    success: bool


def chunk_to_goal(horizon: int, left: int, goal: int | None, gamma: float) -> Chunk:
    """Return the chunk whose only reward is 1 for reaching the goal within it.

    Args:
        horizon: steps of a whole chunk, at least 1.
        left: steps between the anchor and the episode's last.
        goal: steps between the anchor and the goal; None: it is not in this episode.
        gamma: discount per step.
    """
    success = goal is not None and 0 <= goal < horizon
    steps = min(horizon, left, goal if success and goal is not None else horizon)
    return Chunk(steps, gamma**steps if success else 0.0, 0.0 if success else gamma**steps, success)


def chunk_of_rewards(horizon: int, rewards: Sequence[float] | F32, gamma: float, *, terminal: bool) -> Chunk:
    """Return the chunk of recorded rewards.

    Args:
        horizon: steps of a whole chunk, at least 1.
        rewards: of the steps from the anchor to the one before the episode's last.
        gamma: discount per step.
        terminal: whether the episode's last step is terminal.
    """
    steps = min(horizon, len(rewards))
    reward = math.fsum(gamma**k * float(r) for k, r in enumerate(rewards[:steps]))
    ends = terminal and steps == len(rewards)
    return Chunk(steps, reward, 0.0 if ends else gamma**steps, ends)
