"""Where a sample is going: the goal drawn for it, the way there, and its chunk of temporal-difference learning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.loader.episode import EpisodeView
from pipelines.loader.fields import Field
from schemas.goals import GoalSpec, TdSpec
from transforms.goals import Chunk, chunk_of_rewards, chunk_to_goal, drawn_unit, hindsight_offset, multi_scale
from transforms.windows import SECOND, Window

type Elsewhere = Callable[[float], tuple[EpisodeView, str, int]]  # a draw from [0, 1) to an episode, its dataset and a step


@dataclass(frozen=True, slots=True)
class Aim:
    """The goal of one sample: `step` of `view`, `ahead` steps after the anchor; None: in no known relation to it."""

    view: EpisodeView
    dataset: str
    step: int
    ahead: int | None

    def window(self, anchor: int, entries: int, distal: int) -> Window:
        """Return the rows of `view` that show the goal (`entries` 1) or the way there; arrays are [entries]."""
        if entries == 1:
            return _at(self.step)
        if self.ahead is None:
            return Window(np.full(entries, self.step), np.arange(entries) < entries - 1, np.zeros(entries, np.int64))
        steps, is_pad = multi_scale(self.ahead, entries - distal, distal)
        return Window(anchor + np.asarray(steps), np.asarray(is_pad), np.zeros(entries, np.int64))


def draw_aim(spec: GoalSpec, view: EpisodeView, dataset: str, step: int, draw: int, elsewhere: Elsewhere) -> Aim:
    """Return the goal of the sample anchored at `step`; it depends on episode, step and `draw` alone."""
    kind, place = (drawn_unit(name, view.episode_id, step, draw) for name in ("goal", "where"))
    if kind < spec.current:
        return Aim(view, dataset, step, 0)
    if kind < spec.current + spec.trajectory or spec.random == 0:
        ahead = hindsight_offset(len(view.t_ns) - 1 - step, place, spec.offsets, spec.gamma)
        return Aim(view, dataset, step + ahead, ahead)
    return Aim(*elsewhere(place), None)


def td_chunk(spec: TdSpec, view: EpisodeView, step: int, aim: Aim | None) -> Chunk:
    """Return the chunk that starts at `step`: towards the goal, or, without one, of the recorded rewards."""
    horizon, last = max(1, round(spec.horizon_s * SECOND / view.period_ns)), len(view.t_ns) - 1
    if aim is not None:
        return chunk_to_goal(horizon, last - step, aim.ahead, spec.gamma)
    return chunk_of_rewards(horizon, view.rewards[step:last][:horizon], spec.gamma, terminal=view.ends(step + horizon))


def numbers(view: EpisodeView, step: int, aim: Aim | None, chunk: Chunk | None) -> dict[str, npt.NDArray[Any]]:
    """Return the numbers of the sample's own: `goal.offset_s` and `td.*`; `goal.offset_s` is absent where the goal is in no known relation to the anchor."""
    found: dict[str, npt.NDArray[Any]] = {}
    if aim is not None and aim.ahead is not None:
        found["goal.offset_s"] = np.asarray((view.t_ns[aim.step] - view.t_ns[step]) / SECOND, np.float32)
    if chunk is not None:
        found |= {
            "td.steps": np.asarray(chunk.steps, np.int64), "td.reward": np.asarray(chunk.reward, np.float32),
            "td.discount": np.asarray(chunk.discount, np.float32), "td.success": np.asarray(chunk.success),
        }  # fmt: skip
    return found


def next_window(step: int, chunk: Chunk) -> Window:
    """Return the row of the observation at the end of a chunk."""
    return _at(step + chunk.steps)


def entries_of(field: Field) -> int:
    """Return how many instants a field shows."""
    return 1 if field.offsets_ns is None else len(field.offsets_ns)


def _at(step: int) -> Window:
    return Window(np.array([step]), np.zeros(1, np.bool_), np.zeros(1, np.int64))
