"""The attempt tree: what was tried from which state, how it went, and who tried it.

A robot's retries, a person's interventions and corrections, futures imagined by a world model and the turns of a language agent are
the same rows. A node is one segment of behaviour that begins where its parent ends; a path from a root to a leaf is one attempt. All
training data made from attempts (preferences, splices, corrections, ...) are pure views of this table, in `transforms.attempts`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import pyarrow as pa

from schemas.errors import DataError
from schemas.ids import digest, short_id

Author = Literal["human", "policy", "model", "environment"]
Kind = Literal["robot", "intervention", "correction", "rollout", "agent"]
ROOT = ""  # the parent of a root, and the prefix of nothing

_NAME = pa.dictionary(pa.int32(), pa.string())
NODES = pa.schema(
    [
        pa.field("tree", pa.string(), nullable=False),  # attempts that share a root
        pa.field("node", pa.string(), nullable=False),
        pa.field("parent", pa.string(), nullable=False),  # empty: a root
        pa.field("prefix", pa.string(), nullable=False),  # digest of all content from the root to the end of this node
        pa.field("kind", _NAME, nullable=False),
        pa.field("author", _NAME, nullable=False),
        pa.field("generator", _NAME),  # fingerprint of the policy or model; null for people
        pa.field("version", pa.int64()),  # training step or release of the generator
        pa.field("task", _NAME),
        pa.field("episode_id", pa.string()),  # where the content is steps of a recorded episode
        pa.field("start_ns", pa.int64()),
        pa.field("end_ns", pa.int64()),
        pa.field("turns", pa.large_string()),  # where the content is text: a JSON list of turns
        pa.field("values", pa.list_(pa.float64())),  # where it is neither: the actions themselves, step after step
        pa.field("width", pa.int32()),  # numbers per action in `values`
        pa.field("content", pa.string(), nullable=False),  # digest of the actions or turns
        pa.field("state", pa.string()),  # digest of the state the node begins in
        pa.field("outcome", pa.float64()),  # R of the attempt that ends here; null: not judged
        pa.field("success", pa.bool_()),
        pa.field("error", pa.bool_()),  # a judge calls this node a mistake; null: not judged
        pa.field("milestones", pa.list_(pa.string())),
        pa.field("duration_s", pa.float64()),
        pa.field("detail", pa.string()),  # JSON: what the source says besides
    ]
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message or action of an agent.

    Attributes:
        role: `user`, `assistant`, `tool` or `environment`.
        text: what was said or returned.
        call: a tool call or action in the source's own form, JSON-ready; None for plain text.
        think: whether the text is reasoning rather than an answer.
    """

    role: str
    text: str = ""
    call: Any = None
    think: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One row before it has ids; see `NODES` for the fields. What it holds is one of `actions`, `values` and `turns`.

    Attributes:
        actions: digest of the actions of a recorded span.
        values: actions that are recorded nowhere else, step after step, `width` numbers each.
    """

    kind: Kind
    author: Author
    parent: str = ROOT
    parent_prefix: str = ROOT
    tree: str = ""
    generator: str | None = None
    version: int | None = None
    task: str | None = None
    episode_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    turns: tuple[Turn, ...] = ()
    actions: str = ""
    values: tuple[float, ...] = ()
    width: int | None = None
    state: str | None = None
    outcome: float | None = None
    success: bool | None = None
    error: bool | None = None
    milestones: tuple[str, ...] = ()
    duration_s: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def content(self) -> str:
        """Digest of what was done or said, and of nothing else."""
        return digest([self.actions, list(self.values), self.width, [asdict(t) for t in self.turns]])

    @property
    def prefix(self) -> str:
        """Digest of all content from the root to here."""
        return digest([self.parent_prefix, self.content])

    @property
    def id(self) -> str:
        """Name of the node: where it hangs, what it holds, who made it and how it went."""
        return short_id(
            "n",
            [
                self.parent,
                self.prefix,
                self.task,
                self.author,
                self.generator,
                self.version,
                self.episode_id,
                self.start_ns,
                self.state,
                self.detail,
            ],
        )

    def child(self, **fields: Any) -> "Node":
        """Return a node that begins where this one ends."""
        own: dict[str, Any] = {"parent": self.id, "parent_prefix": self.prefix, "tree": self.root_tree, "task": self.task}
        return Node(**own | fields)

    @property
    def root_tree(self) -> str:
        """Name of the tree; a root without one names it itself."""
        return self.tree or short_id("tree", [self.id])

    def row(self) -> dict[str, Any]:
        """Return the row of `NODES`."""
        return {
            "tree": self.root_tree, "node": self.id, "parent": self.parent, "prefix": self.prefix, "kind": self.kind,
            "author": self.author, "generator": self.generator, "version": self.version, "task": self.task,
            "episode_id": self.episode_id, "start_ns": self.start_ns, "end_ns": self.end_ns,
            "turns": turns_to_json(self.turns) if self.turns else None,
            "values": list(self.values) if self.width else None, "width": self.width, "content": self.content, "state": self.state,
            "outcome": self.outcome, "success": self.success, "error": self.error, "milestones": list(self.milestones),
            "duration_s": self.duration_s, "detail": json.dumps(dict(self.detail), sort_keys=True),
        }  # fmt: skip


def table(nodes: Iterable[Node]) -> pa.Table:
    """Return nodes as rows of `NODES`, sorted by tree and node, equal ones once."""
    rows = {n.id: n.row() for n in nodes}
    ordered = sorted(rows.values(), key=lambda r: (r["tree"], r["node"]))
    return pa.Table.from_pylist(ordered, schema=NODES)


def turns_to_json(turns: Sequence[Turn]) -> str:
    """Return the text stored in `turns`."""
    return json.dumps([asdict(t) for t in turns], sort_keys=True, ensure_ascii=False)


def turns_from_json(text: str | None) -> tuple[Turn, ...]:
    """Read what `turns_to_json` wrote; none of null.

    Raises:
        DataError: the text is not a list of turns.
    """
    if not text:
        return ()
    try:
        return tuple(Turn(**t) for t in json.loads(text))
    except (TypeError, ValueError) as error:
        raise DataError(f"turns of an attempt cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a view: a turn or a span of an episode, and the node it comes from, so that every token can be traced.

    Attributes:
        node: the node's name.
        turn: the turn, where the node is text.
        at: number of the turn inside its node.
        trained: whether its tokens count in the loss.
    """

    node: str
    turn: Turn | None
    at: int = 0
    trained: bool = True

    @classmethod
    def of(cls, node: str, turns: Sequence[Turn], *, trained: bool = True) -> tuple[Self, ...]:
        """Return the steps of one node: one per turn, or a single one where its content is a recording. Only an author's own words are trained."""
        if not turns:
            return (cls(node, None, 0, trained),)
        return tuple(cls(node, t, i, trained and t.role == "assistant") for i, t in enumerate(turns))
