"""The bag adapter. One bag is one episode, unless a marker topic, pauses or a length limit cut it.

Bags are read by their index: what they hold is known without reading messages, and an episode reads only the chunks of its span.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pipelines.shards.draft import EpisodeDraft
from pipelines.sources.bag.episode import read_episode
from pipelines.sources.bag.files import Bag, find_bags, holds_bags
from pipelines.sources.bag.mapping import Mapping, make_contract, make_mapping
from pipelines.sources.bag.open_bag import OpenBag, open_bag
from pipelines.sources.bag.settings import BagSettings, TopicRule, read_settings
from pipelines.sources.bag.split import Span, split_bag
from pipelines.sources.bag.survey import survey
from pipelines.sources.base import Group, SourceOptions
from pipelines.sources.tree import Tree
from pipelines.unit import Reject
from schemas.contract import Contract, overlay
from schemas.errors import DataError, MalformedSourceError

Rules = dict[str, tuple[TopicRule, ...]]


@dataclass(frozen=True, slots=True)
class BagSource:
    """MCAP files, rosbag2 folders and ROS 1 bags: one, or a folder with any number of them.

    Without settings, pictures become cameras, joint states features (and streams), all other numbers and texts streams, and steps
    are the pictures of the fullest camera. `pipelines.sources.bag.settings` tells what a `--settings bag.toml` may say. The first
    bag that can be read decides the contract; the others must have the topics its features need.

    Attributes:
        uri: a bag, or a folder searched with its subfolders; anywhere fsspec reaches.
        options: see `SourceOptions`.
    """

    uri: str
    options: SourceOptions
    name: ClassVar[str] = "bag"
    version: ClassVar[str] = "1"

    @classmethod
    def recognises(cls, uri: str) -> bool:
        """Tell whether `uri` is a bag, or a folder with at least one."""
        return holds_bags(uri)

    def contract(self) -> Contract:
        """Return the contract: the first readable bag's, the user's overlay applied.

        Raises:
            UsageError: a setting makes no sense.
            MissingFileError: nothing is at the uri.
            MalformedSourceError: there is no bag, or nothing in it can be mapped.
            CorruptMediaError: no bag can be read.
        """
        settings, rules = read_settings(self.options.settings)
        found = find_bags(self.uri)
        return self._declare(_first_mapping(found.tree, found.bags, settings, rules), settings)

    def groups(self) -> Sequence[Group]:
        """List groups of episodes, bag by bag in natural order, and one of what cannot be read.

        Raises:
            UsageError: a setting makes no sense.
            MissingFileError: nothing is at the uri.
            MalformedSourceError: there is no bag.
        """
        settings, rules = read_settings(self.options.settings)
        found = find_bags(self.uri)
        rejects = list(found.rejects)
        mapping = _first_mapping(found.tree, found.bags, settings, rules) if found.bags else None
        plans = list[_Plan]()
        for bag in found.bags:
            try:
                with open_bag(found.tree, bag) as opened:
                    spans, notes = split_bag(opened, settings, mapping.clock if mapping else "")
                plans.append(_Plan(bag, tuple(spans), tuple(notes)))
            except DataError as error:
                rejects.append(Reject.of(error, bag.name, found.tree.uri(bag.name)))
        seals = {f: found.tree.seal(f) for p in plans for f in p.bag.files}
        groups = [_group(seals, batch) for batch in _batches(found.tree, plans, self.options.shard_bytes)]
        if rejects:
            inputs = [[r.key, r.message] for r in rejects]
            groups.append(Group("bags that cannot be read", len(rejects), 0, inputs, _Batch((), tuple(rejects))))
        return groups

    def read(self, group: Group) -> Iterator[EpisodeDraft | Reject]:
        """Yield the episodes of `group`; one whose part of the bag is damaged, or that lacks a declared topic, is a reject."""
        batch: _Batch = group.payload
        yield from batch.rejects
        if not batch.plans:
            return
        settings, rules = read_settings(self.options.settings)
        found = find_bags(self.uri)
        mapping = _first_mapping(found.tree, found.bags, settings, rules)
        contract = self._declare(mapping, settings)
        for plan in batch.plans:
            yield from _read_bag(found.tree, plan, mapping, settings, contract)

    def _declare(self, mapping: Mapping, settings: BagSettings) -> Contract:
        contract = make_contract(mapping, settings, self.options.dataset, self.options.licence)
        return overlay(contract, self.options.contract) if self.options.contract else contract


@dataclass(frozen=True, slots=True)
class _Plan:
    """Some episodes of one bag."""

    bag: Bag
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Batch:
    plans: tuple[_Plan, ...]
    rejects: tuple[Reject, ...] = ()


def _first_mapping(tree: Tree, bags: Sequence[Bag], settings: BagSettings, rules: Rules) -> Mapping:
    """Return the mapping of the first bag that can be mapped, else raise why the first cannot."""
    failed: DataError | None = None
    for bag in bags:
        try:
            with open_bag(tree, bag) as opened:
                return make_mapping(survey(opened), settings, rules)
        except DataError as error:
            error.uri = error.uri or tree.uri(bag.name)
            failed = failed or error
    raise failed or MalformedSourceError(f"{tree.root} holds no bag that can be read", uri=tree.root)


def _read_bag(
    tree: Tree, plan: _Plan, mapping: Mapping, settings: BagSettings, contract: Contract
) -> Iterator[EpisodeDraft | Reject]:
    try:
        with open_bag(tree, plan.bag) as bag:
            _check_topics(bag, mapping, settings)
            notes = (*plan.notes, *bag.notes, *mapping.notes, *_strangers(bag, mapping, settings))
            for span in plan.spans:
                try:
                    _check_size(bag, tree, span, settings)
                    yield read_episode(bag, span, mapping, settings, contract, notes)
                except DataError as error:
                    yield Reject.of(error, span.key, bag.uri)
    except DataError as error:
        left = len(plan.spans)
        yield Reject.of(error, plan.bag.name, tree.uri(plan.bag.name), episodes=left)


def _check_topics(bag: OpenBag, mapping: Mapping, settings: BagSettings) -> None:
    """Refuse a bag without the topics that every step needs."""
    needed = [f.topic for f in mapping.features] + ([] if settings.control_hz else [mapping.clock])
    if missing := [t for t in dict.fromkeys(needed) if not bag.counts.get(t)]:
        raise MalformedSourceError(
            f"{bag.uri} has no messages on {', '.join(missing)}, which this dataset's steps need; ingest it as a dataset of its own, "
            "or name its topics in the settings",
            uri=bag.uri,
        )


def _check_size(bag: OpenBag, tree: Tree, span: Span, settings: BagSettings) -> None:
    size = sum(tree.size(f) for f in bag.bag.files)
    share = (span.stop_ns - span.start_ns) / max(bag.stop_ns - bag.start_ns, 1)
    if size * share > settings.max_episode_mb << 20:
        raise MalformedSourceError(
            f"{bag.uri}: this episode would hold about {size * share / (1 << 30):.1f} GiB; cut it with max_episode_s, or raise "
            f"max_episode_mb={settings.max_episode_mb}",
            uri=bag.uri,
        )


def _strangers(bag: OpenBag, mapping: Mapping, settings: BagSettings) -> list[str]:
    """Tell of topics this bag has and the mapping, made from another bag, does not know; and of those without a message."""
    silent = sorted(topic for topic, count in bag.counts.items() if not count)
    told = " ".join(mapping.notes)
    known = mapping.topics | {settings.marker}
    notes = [f"{len(silent)} topics have no messages: {', '.join(silent)}"] if silent else []
    return notes + [
        f"topic {topic} ({count} messages) is not in the first bag and left out"
        for topic, count in bag.counts.items()
        if count and topic not in known and f"topic {topic} " not in told
    ]


def _batches(tree: Tree, plans: Sequence[_Plan], limit: int) -> Iterator[list[tuple[_Plan, int]]]:
    """Pack episodes into batches of about `limit` bytes, judged by their share of the bag's time."""
    batch, size = list[tuple[_Plan, int]](), 0
    for plan in plans:
        whole = sum(tree.size(f) for f in plan.bag.files)
        length = max(sum(s.stop_ns - s.start_ns for s in plan.spans), 1)
        for span in plan.spans:
            share = round(whole * (span.stop_ns - span.start_ns) / length)
            if batch and size + share > limit:
                yield batch
                batch, size = [], 0
            batch.append((replace(plan, spans=(span,)), share))
            size += share
    if batch:
        yield batch


def _group(seals: dict[str, str], batch: Sequence[tuple[_Plan, int]]) -> Group:
    spans = [p.spans[0] for p, _ in batch]
    label = spans[0].key if len(spans) == 1 else f"{spans[0].key} .. {spans[-1].key}"
    merged = list[_Plan]()
    for plan, _ in batch:
        if merged and merged[-1].bag == plan.bag:
            merged[-1] = replace(merged[-1], spans=merged[-1].spans + plan.spans)
        else:
            merged.append(plan)
    inputs: list[Any] = [
        [p.bag.name, [[f, seals[f]] for f in p.bag.files], [[s.key, s.start_ns, s.stop_ns, s.task] for s in p.spans]]
        for p in merged
    ]
    return Group(label, len(spans), sum(size for _, size in batch), inputs, _Batch(tuple(merged)))
