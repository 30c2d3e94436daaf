"""The order of a mixture, computed from a position alone: draw t -> (source, epoch, item).

Nothing here depends on world size, workers or what was drawn before, so the only state of a run is one integer. Sources are
interleaved by `transforms.interleave` and each is walked by one `transforms.permutation` per epoch: exact shares at every prefix
and no item twice before its source is through. With `locality`, that permutation is a `transforms.locality`: neighbouring draws
of a source come from few episodes, which a reader opens and decodes once for many samples. With `group`, what is interleaved and
permuted are episodes, and each fills that many successive draws with different steps of its own.

What it does not do: hide the order (it is not cryptography), keep overlapping windows of one episode apart (only chance does), or
make shares exact in anything but samples.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from schemas.ids import canonical_json, digest
from schemas.mixture import LocalitySpec
from transforms.interleave import Interleave, interleave
from transforms.locality import Blocks, EvenBlocks, ListedBlocks, LocalPermutation, local_permutation
from transforms.permutation import Permutation, permutation

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlanSource:
    """A source as the plan sees it. `id` seeds its order: the same id and seed give the same order in every mixture.

    `blocks` lists its episodes' lengths, packed by `pack_blocks`; only an order with the locality of episodes, or groups, needs it.
    """

    name: str
    id: str
    items: int
    blocks: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; `blocks` only where there are some, so that plans without locality keep their hash."""
        return {k: v for k, v in asdict(self).items() if k != "blocks" or v}


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of `samples` draws with fixed shares: `quotas[i]` of every `sum(quotas)` draws are source i."""

    samples: int
    quotas: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Draws:
    """What a run of positions draws; three int64[n]. `item` is in `range(items)` of its source."""

    source: I64
    epoch: I64
    item: I64


@dataclass(frozen=True)
class Plan:
    """The whole order. Built from `sources` and `phases`; a source's coverage continues from one phase into the next."""

    seed: int
    sources: tuple[PlanSource, ...]
    phases: tuple[Phase, ...]
    locality: LocalitySpec | None = None
    group: int = 1

    def __post_init__(self) -> None:
        for number, phase in enumerate(self.phases):
            if len(phase.quotas) != len(self.sources):
                raise UsageError(f"phase {number} has {len(phase.quotas)} quotas for {len(self.sources)} sources")
            for source, quota in zip(self.sources, phase.quotas, strict=True):
                if quota and source.items < 1:
                    raise UsageError(f"source {source.name} has a share in phase {number} but no item to draw")
        if len({s.id for s in self.sources}) != len(self.sources):
            raise UsageError("two sources have the same id and would be drawn in the same order; give them different names")
        if any(phase.samples % self.group for phase in self.phases):
            raise UsageError(f"the phases {[p.samples for p in self.phases]} do not hold whole groups of {self.group} draws")
        if self.group > 1 or (self.locality and not self.locality.block_steps):
            for source in self.sources:
                if int(unpack_blocks(source.blocks).sum()) != source.items:
                    raise UsageError(f"source {source.name}: the blocks of its episodes do not add up to {source.items} items")

    def __len__(self) -> int:
        """Number of draws."""
        return self._starts[-1]

    @cached_property
    def hash(self) -> str:
        """Identifies the order: equal hashes draw the same items at every position."""
        return digest(self.to_dict())[:20]

    def draw(self, positions: npt.ArrayLike) -> Draws:
        """Return what each position draws; any order, any subset. Costs least in blocks of some thousands.

        Raises:
            IndexError: a position is outside the plan.
        """
        at = np.asarray(positions, np.int64).reshape(-1)
        if len(at) and (at.min() < 0 or at.max() >= len(self)):
            raise IndexError(f"draws {at.min()} to {at.max()} are not all inside the plan's {len(self)}")
        source, ordinal = self._locate(at)
        epoch, item = np.empty_like(ordinal), np.empty_like(ordinal)
        for s in np.unique(source).tolist():
            mine = source == s
            epoch[mine], item[mine] = (
                self._items(s, ordinal[mine]) if self.group == 1 else self._members(s, ordinal[mine], at[mine])
            )
        return Draws(source, epoch, item)

    def counts(self, draws: int | None = None) -> I64:
        """Return how often each source occurs among the first `draws` (all of them, if None), int64[S]."""
        end = len(self) if draws is None else draws
        phase = max(int(np.searchsorted(self._starts, end, side="right")) - 1, 0)
        if phase >= len(self.phases):
            return self._bases[-1].copy()
        groups, members = divmod(end - self._starts[phase], self.group)
        found = self._bases[phase] + self.group * self._tables[phase].counts(groups)
        if members:
            found[self._tables[phase].locate(np.array([groups]))[0]] += members
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back."""
        local = {"locality": asdict(self.locality)} if self.locality else {}
        local |= {"group": self.group} if self.group > 1 else {}
        return {
            "seed": self.seed,
            "sources": [s.to_dict() for s in self.sources],
            "phases": [{"samples": p.samples, "quotas": list(p.quotas)} for p in self.phases],
            **local,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        sources = tuple(PlanSource(**s) for s in raw["sources"])
        phases = tuple(Phase(p["samples"], tuple(p["quotas"])) for p in raw["phases"])
        locality = LocalitySpec(**raw["locality"]) if "locality" in raw else None
        return cls(raw["seed"], sources, phases, locality, raw.get("group", 1))

    def _locate(self, at: I64) -> tuple[I64, I64]:
        """Source of each position, and how many draws (or groups) of it come before."""
        phase = np.searchsorted(self._starts, at, side="right") - 1
        source, ordinal = np.empty_like(at), np.empty_like(at)
        for p in np.unique(phase).tolist():
            mine = phase == p
            source[mine], within = self._tables[p].locate((at[mine] - self._starts[p]) // self.group)
            ordinal[mine] = self._bases[p][source[mine]] // self.group + within
        return source, ordinal

    def _items(self, source: int, ordinal: I64) -> tuple[I64, I64]:
        epoch, place = np.divmod(ordinal, self.sources[source].items)
        item = np.empty_like(place)
        for e in np.unique(epoch).tolist():
            mine = epoch == e
            item[mine] = self._order(source, e)(place[mine])
        return epoch, item

    def _members(self, source: int, ordinal: I64, at: I64) -> tuple[I64, I64]:
        """Epoch and item of groups' members: the group's ordinal chooses an episode, the member's place in it a step."""
        blocks = self._listed[source]
        epoch, place = np.divmod(ordinal, len(blocks))
        item, member = np.empty_like(place), at % self.group
        for e in np.unique(epoch).tolist():
            mine = np.flatnonzero(epoch == e)
            key = canonical_json([self.seed, self.sources[source].id, e])
            rows = permutation(len(blocks), key + b"/groups")(place[mine])
            for row in np.unique(rows).tolist():
                here, size = mine[rows == row], int(blocks.sizes[row])
                item[here] = blocks.starts[row] + permutation(size, key + b"/group/%d" % row)(member[here] % size)
        return epoch, item

    def _order(self, source: int, epoch: int) -> Permutation | LocalPermutation:
        key = canonical_json([self.seed, self.sources[source].id, epoch])
        if self.locality is None:
            return permutation(self.sources[source].items, key)
        return local_permutation(self._blocks[source], self.locality.window, key)

    @cached_property
    def _listed(self) -> list[ListedBlocks]:
        return [ListedBlocks(unpack_blocks(s.blocks)) for s in self.sources]

    @cached_property
    def _blocks(self) -> list[Blocks]:
        run = self.locality.block_steps if self.locality else 0
        return [EvenBlocks(s.items, run) for s in self.sources] if run else [*self._listed]

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for phase in self.phases:
            starts.append(starts[-1] + phase.samples)
        return starts

    @cached_property
    def _tables(self) -> list[Interleave]:
        return [interleave(phase.quotas) for phase in self.phases]

    @cached_property
    def _bases(self) -> list[I64]:
        """How often each source was drawn before each phase, and before the end."""
        bases: list[I64] = [np.zeros(len(self.sources), np.int64)]
        for phase, table in zip(self.phases, self._tables, strict=True):
            bases.append(bases[-1] + self.group * table.counts(phase.samples // self.group))
        return bases


@dataclass(frozen=True)
class InOrder:
    """Every item of every source once, source after source: a held-out split, or a dataset read without a mixture."""

    sources: tuple[PlanSource, ...]

    def __len__(self) -> int:
        """Number of draws."""
        return int(self._ends[-1]) if self.sources else 0

    @cached_property
    def hash(self) -> str:
        """Identifies the order."""
        return digest(["in order", [s.to_dict() for s in self.sources]])[:20]

    def draw(self, positions: npt.ArrayLike) -> Draws:
        """Return what each position draws; `epoch` is 0.

        Raises:
            IndexError: a position is outside the sources.
        """
        at = np.asarray(positions, np.int64).reshape(-1)
        if len(at) and (at.min() < 0 or at.max() >= len(self)):
            raise IndexError(f"positions {at.min()} to {at.max()} are not all inside range({len(self)})")
        source = np.searchsorted(self._ends, at, side="right")
        before = np.concatenate([[0], self._ends[:-1]]).astype(np.int64)
        return Draws(source, np.zeros_like(at), at - before[source])

    @cached_property
    def _ends(self) -> I64:
        return np.cumsum([s.items for s in self.sources], dtype=np.int64)


type Order = Plan | InOrder


def pack_blocks(sizes: npt.ArrayLike) -> str:
    """Return block sizes as text for `PlanSource.blocks`, without the empty ones: base64 of little-endian uint32."""
    given = np.asarray(sizes, np.int64)
    return base64.b64encode(given[given > 0].astype("<u4").tobytes()).decode()


def unpack_blocks(text: str) -> I64:
    """Read what `pack_blocks` wrote, int64[blocks]."""
    return np.frombuffer(base64.b64decode(text), "<u4").astype(np.int64)


def rank_slice(batch: int, batch_size: int, rank: int, world: int) -> tuple[int, int]:
    """Return the positions `[start, stop)` of rank `rank` in global batch `batch`.

    Slices are contiguous: every prefix of the order is fair, so every slice is; strided ranks can each see a single source.

    Raises:
        UsageError: the rank is outside the world, or the batch does not divide evenly.
    """
    if not 0 <= rank < world:
        raise UsageError(f"rank {rank} is not in a world of {world}; ranks count from 0")
    if batch_size < 1 or batch_size % world:
        raise UsageError(f"a global batch of {batch_size} does not divide among {world} ranks; use a multiple of {world}")
    share = batch_size // world
    start = batch * batch_size + rank * share
    return start, start + share
