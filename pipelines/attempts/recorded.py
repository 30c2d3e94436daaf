"""Attempts in recorded episodes: interventions a flag marks, and several tries at one task from one state."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from pipelines.proprioception import actions, matrix, states
from pipelines.shards.reader import Shard, open_shard
from schemas.attempts import Node
from schemas.errors import DataError
from schemas.ids import bytes_digest, digest
from schemas.interventions import FLAG, POLICY_ACTION
from transforms.attempts.corrections import effect_ns, local_basis
from transforms.columns import feature_array

I64 = npt.NDArray[np.int64]
EFFECT = 0.05  # of the spread of an episode's actions: a smaller difference has no effect


@dataclass(frozen=True, slots=True)
class Recorded:
    """One episode and what the catalog knows of it."""

    row: dict[str, Any]
    shard: Shard

    @property
    def steps(self) -> pa.Table:
        """Its steps."""
        return self.shard.episode_steps(self.row["episode_id"])

    @property
    def outcome(self) -> float | None:
        """1 for a success, 0 for a failure, None where the source does not say."""
        return None if self.row["success"] is None else float(self.row["success"])

    def node(self, first: int, stop: int, **fields: Any) -> Node:
        """Return a root over steps `[first, stop)`; see `schemas.attempts.Node`."""
        own: dict[str, Any] = {"kind": "robot", "author": "policy", "task": self.row["task"], **self._span(first, stop)}
        return Node(**own | fields)

    def child(self, parent: Node, first: int, stop: int, **fields: Any) -> Node:
        """Return a node below `parent` over steps `[first, stop)`."""
        return parent.child(**{"kind": "robot", "author": "policy", **self._span(first, stop), **fields})

    def _span(self, first: int, stop: int) -> dict[str, Any]:
        t = self.steps.column("t_ns").to_numpy()
        end = int(t[stop]) if stop < len(t) else int(t[-1] + np.median(np.diff(t))) if len(t) > 1 else int(t[-1]) + 1
        acted = self.steps.slice(first, stop - first)
        body = [np.ascontiguousarray(feature_array(acted, f)).tobytes() for f in actions(self.shard.contract)]
        return {
            "episode_id": self.row["episode_id"], "start_ns": int(t[first]), "end_ns": end, "duration_s": (end - int(t[first])) * 1e-9,
            "actions": bytes_digest(body), "state": self.state(first),
        }  # fmt: skip

    def state(self, step: int, tolerance: float = 0.0) -> str | None:
        """Return the digest of what proprioception and the simulator say at a step, rounded to `tolerance` where it is above 0."""
        chosen = [f for f in self.shard.contract.features if f.privileged and f.dtype != "string"] or states(self.shard.contract)
        if not chosen:
            return None
        values = matrix(self.steps.slice(step, 1), chosen)[0]
        return digest((np.round(values / tolerance) if tolerance > 0 else values).tolist())


def read_recorded(lake: Lake, episodes: pl.DataFrame) -> Iterator[Recorded]:
    """Open the episodes (rows of the catalog's table), in catalog order."""
    for row in episodes.sort("dataset", "shard", "first_row").iter_rows(named=True):
        yield Recorded(row, open_shard(lake, row["dataset"], row["shard"]))


def intervention_nodes(episode: Recorded) -> list[Node]:
    """Return the tree of an episode in which a person took over: spans in turn by policy and person, each the child of the one before.

    Where the policy's own action was recorded during an intervention, what it would have done is a sibling of the intervention, marked
    as the mistake and as not carried out; else the policy's span before the intervention is.

    Raises:
        DataError: the episode has no intervention flag.
    """
    names = episode.steps.column_names
    flag = next((n for n in names if FLAG.search(n)), None)
    if flag is None:
        raise DataError("no step column called intervention or is_intervention", episode=episode.row["episode_id"])
    taken = np.asarray(episode.steps.column(flag).to_pylist(), np.float64).reshape(-1) > 0.5
    policy = next((n for n in names if POLICY_ACTION.search(n)), None)
    edges = [0, *(np.flatnonzero(np.diff(taken)) + 1).tolist(), len(taken)]
    nodes, last = list[Node](), None
    for first, stop in itertools.pairwise(edges):
        ends = stop == len(taken)
        fields: dict[str, Any] = {
            "outcome": episode.outcome if ends else None,
            "success": episode.row["success"] if ends else None,
        }
        if taken[first]:
            fields |= {"kind": "intervention", "author": "human"}
            if policy is not None:
                fields["detail"] = _how(episode, policy, first, stop)
            if policy is not None and last is not None:
                nodes.append(_would_have(episode, last, policy, first, stop))
        else:
            fields["error"] = policy is None and not ends
        last = episode.child(last, first, stop, **fields) if last is not None else episode.node(first, stop, **fields)
        nodes.append(last)
    return nodes


def _would_have(episode: Recorded, parent: Node, column: str, first: int, stop: int) -> Node:
    wanted = np.asarray(episode.steps.column(column).to_pylist()[first:stop], np.float64)
    fields = {"actions": "", "values": tuple(wanted.reshape(-1).tolist()), "width": wanted.reshape(len(wanted), -1).shape[1]}
    return episode.child(parent, first, stop, **fields, error=True, detail={"carried_out": False})


def _how(episode: Recorded, column: str, first: int, stop: int) -> dict[str, Any]:
    """Say in how few directions a person corrected the policy, and how long after the take-over the first difference is."""
    done = matrix(episode.steps, actions(episode.shard.contract))
    wanted = np.asarray(episode.steps.column(column).to_pylist()[first:stop], np.float64).reshape(stop - first, -1)
    if wanted.shape[1] != done.shape[1] or not np.isfinite(wanted).all() or not np.isfinite(done[first:stop]).all():
        return {}
    differences, t = done[first:stop] - wanted, episode.steps.column("t_ns").to_numpy()[first:stop]
    basis, least = local_basis(differences), EFFECT * float(np.linalg.norm(np.nanstd(done, axis=0)))
    felt = effect_ns(t, differences, int(t[0]), float(t[-1] - t[0]) * 1e-9, max(least, np.finfo(float).tiny))
    return {
        "directions": np.round(basis.directions, 6).tolist(), "explained": round(basis.explained, 6),
        "effect_s": None if felt is None else (felt - int(t[0])) * 1e-9,
    }  # fmt: skip


def retry_nodes(episode: Recorded, boundaries: Sequence[int], tolerance: float) -> list[Node]:
    """Return an episode as a chain of nodes, one per segment; episodes that begin alike share the state of their roots.

    Args:
        episode: which one.
        boundaries: starts of its segments in nanoseconds, without the first; empty: one node.
        tolerance: states of the first step are compared after rounding to this, in the features' own units.
    """
    t = episode.steps.column("t_ns").to_numpy()
    cuts = sorted({int(np.searchsorted(t, b)) for b in boundaries} - {0, len(t)})
    edges, nodes = [0, *cuts, len(t)], list[Node]()
    for first, stop in itertools.pairwise(edges):
        ends = stop == len(t)
        fields: dict[str, Any] = {
            "outcome": episode.outcome if ends else None,
            "success": episode.row["success"] if ends else None,
        }
        if not nodes:
            nodes.append(episode.node(first, stop, **fields | {"state": episode.state(0, tolerance)}))
        else:
            nodes.append(episode.child(nodes[-1], first, stop, **fields))
    return nodes
