"""What fitters learn from: the states and actions of a selection as arrays, one set per action space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from pipelines.proprioception import actions, matrix, standardised, states
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Frames:
    """Steps of the episodes of one action space, laid end to end in catalog order.

    Attributes:
        scope: `Contract.action_space`.
        episodes: rows of the `episodes` table, E of them.
        episode: int64[N], position in `episodes` of each step.
        t_ns: int64[N], episode clock.
        state: float64[N, S], the proprioceptive features beside each other, in their own units.
        action: float64[N, A], in its own units.
        reward: float64[N]; where a source has none, 1 on the last step of a successful episode and 0 elsewhere.
        last: bool[N], the last kept step of its episode.
        dropped: steps left out because a value was not finite or the action was padding.
    """

    scope: str
    episodes: pl.DataFrame
    episode: I64
    t_ns: I64
    state: F64
    action: F64
    reward: F64
    last: npt.NDArray[np.bool_]
    dropped: int

    def standardised(self) -> tuple[F64, F64]:
        """Return state and action with mean 0 and deviation 1 per dimension; constant dimensions are 0."""
        return standardised(self.state), standardised(self.action)


def gather(lake: Lake, episodes: pl.DataFrame) -> list[Frames]:
    """Read states and actions of `episodes` (rows of the catalog's table), one `Frames` per action space.

    Raises:
        UsageError: no episode has both.
    """
    parts: dict[str, list[tuple[dict[str, object], Shard]]] = {}
    for row in episodes.sort("dataset", "shard", "first_row").iter_rows(named=True):
        shard = open_shard(lake, row["dataset"], row["shard"])
        if states(shard.contract) and actions(shard.contract):
            shape = "+".join(str(f.size) for f in states(shard.contract))
            parts.setdefault(f"{shard.contract.action_space}/state {shape}", []).append((row, shard))
    if not parts:
        raise UsageError(f"none of the {episodes.height} episodes has both a proprioceptive state and an action")
    return [_stack(scope, chosen, episodes) for scope, chosen in sorted(parts.items())]


def _stack(scope: str, chosen: Sequence[tuple[dict[str, object], Shard]], episodes: pl.DataFrame) -> Frames:
    ids = [str(row["episode_id"]) for row, _ in chosen]
    kept = episodes.filter(pl.col("episode_id").is_in(ids)).sort("dataset", "shard", "first_row")
    place = {e: i for i, e in enumerate(kept["episode_id"])}
    state, action, reward, t_ns, number, last, dropped = [], [], [], [], [], [], 0
    for row, shard in chosen:
        steps = shard.episode_steps(str(row["episode_id"]))
        s, a, r = matrix(steps, states(shard.contract)), matrix(steps, actions(shard.contract)), _reward(steps, row["success"])
        usable = np.asarray(np.isfinite(np.concatenate([s, a], axis=1)).all(axis=1))
        usable &= (np.arange(len(usable)) < len(usable) - 1) | shard.contract.last_action_valid
        dropped += int((~usable).sum())
        if not usable.any():
            continue
        r[np.flatnonzero(usable)[-1]] += r[~usable].sum()  # what a dropped last step earned belongs to the step before it
        state.append(s[usable])
        action.append(a[usable])
        reward.append(r[usable])
        t_ns.append(steps.column("t_ns").to_numpy()[usable])
        number.append(np.full(int(usable.sum()), place[str(row["episode_id"])], np.int64))
        last.append(np.arange(int(usable.sum())) == int(usable.sum()) - 1)
    if not state:
        raise UsageError(f"{scope}: every step of {len(chosen)} episodes has a value that is not finite")
    where, times = np.concatenate(number), np.concatenate(t_ns)
    seen, done = np.concatenate(state), np.concatenate(action)
    return Frames(scope, kept, where, times, seen, done, np.concatenate(reward), np.concatenate(last), dropped)


def _reward(steps: pa.Table, success: object) -> F64:
    if "reward" in steps.column_names:
        reward = steps.column("reward").to_numpy(zero_copy_only=False).astype(np.float64)
        if np.isfinite(reward).any():
            return np.nan_to_num(reward, nan=0.0)
    reward = np.zeros(steps.num_rows)
    reward[-1] = float(bool(success))
    return reward
