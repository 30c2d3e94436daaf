"""Fits action tokenizers on a selection and keeps them in the lake under the hash of their content: fitting twice gives one file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annotators.base import Batch, in_test
from annotators.tokens.book import Material, TokenBook, TokenizerSpec, fit_book
from annotators.tokens.chunks import ActionSpace, action_space, column_of, cut
from catalog.lake import Lake
from pipelines.publish import publish_bytes
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import open_shard
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.codec.base import F64
from transforms.quantiles import Sketch
from transforms.spread import spread

MOST_CHUNKS = 50_000  # per action space, for the vocabulary; statistics see every step
FOLDER = "tokenizers"
OWN = ("tokenizer", "stride_s", "max_saturated")  # settings of the annotator; the others are the tokenizer's


@dataclass(frozen=True, slots=True)
class Trained:
    """A tokenizer in the lake.

    Attributes:
        book: the tokenizer.
        path: of its file; give it to `--set tokenizer=`.
        skipped: datasets without an action space, and why.
    """

    book: TokenBook
    path: str
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])


def train_tokenizer(lake: Lake, what: str = "all", spec: TokenizerSpec | None = None) -> Trained:
    """Fit a tokenizer on a selection: true quantiles per action space, and for FAST one vocabulary over all of them.

    With `fit_on='val'`, only the half of the episodes that evaluation does not report on is used (all of them where that half of an
    action space is empty).

    Args:
        lake: where the episodes are and the tokenizer goes.
        what: see `pipelines.selection.choose`.
        spec: how to make it.

    Raises:
        UsageError: the selection is empty, or none of its datasets has actions and a control rate.
    """
    spec, skipped, found = spec or TokenizerSpec(), dict[str, str](), dict[str, _Gathered]()
    for dataset, batch in _batches(lake, what):
        space = action_space(batch.contract, spec.horizon_s, spec.column)
        if isinstance(space, str):
            skipped[dataset] = space
            continue
        found.setdefault(space.key, _Gathered(space)).add(dataset, batch)
    materials = [m for g in found.values() if (m := g.material(spec)) is not None]
    if not materials:
        why = ", ".join(f"{d}: {r}" for d, r in sorted(skipped.items())) or "no episode is as long as a chunk"
        raise UsageError(f"no tokenizer can be fitted to {what!r} ({why})")
    book = fit_book(spec, materials)
    path = lake.path(FOLDER, f"{book.tokenizer_id}.json")
    if not lake.fs.exists(path):
        publish_bytes(lake, book.to_json(), path)
    return Trained(book, path, skipped)


def find_tokenizer(lake: Lake, name: str) -> str:
    """Return the path of a tokenizer named by its id, its path in the lake, or any path."""
    inside = lake.path(FOLDER, f"{name}.json") if name and "/" not in name and not name.endswith(".json") else ""
    return inside if inside and lake.fs.exists(inside) else name


def with_tokenizer(lake: Lake, what: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of the annotator `action_tokens` with a tokenizer: the one named, or one fitted on the selection.

    Settings of `TokenizerSpec` (scheme, horizon_s, ...) say how to fit it; the same selection and settings always give the same one.

    Raises:
        UsageError: a tokenizer is named and settings of another are given.
    """
    own = {k: v for k, v in settings.items() if k in OWN}
    making = {k: v for k, v in settings.items() if k not in OWN}
    if own.get("tokenizer"):
        if making:
            raise UsageError(f"the tokenizer {own['tokenizer']} is made already; {', '.join(sorted(making))} cannot be set")
        return own | {"tokenizer": find_tokenizer(lake, str(own["tokenizer"]))}
    try:
        return own | {"tokenizer": train_tokenizer(lake, what, parse_settings(TokenizerSpec, making)).path}
    except UsageError as error:
        if making or "no tokenizer can be fitted" not in str(error):
            raise
        return own  # nothing to tokenize here: the rows will say why


@dataclass(slots=True)
class _Gathered:
    """What has been read of one action space."""

    space: ActionSpace
    sketches: dict[bool, Sketch] = field(default_factory=dict[bool, Sketch])  # whether of the test half
    chunks: dict[bool, list[F64]] = field(default_factory=dict[bool, list[F64]])
    episodes: dict[bool, int] = field(default_factory=dict[bool, int])
    datasets: set[str] = field(default_factory=set[str])

    def add(self, dataset: str, batch: Batch) -> None:
        """Read a shard's episodes."""
        self.datasets.add(dataset)
        test = in_test(batch.groups or batch.episodes)
        for half in (False, True):
            part = batch.take([e for e, is_test in enumerate(test) if bool(is_test) == half])
            if not part.episodes:
                continue
            sketch = Sketch.of(column_of(part.steps, self.space.column))
            self.sketches[half] = self.sketches[half].merge(sketch) if half in self.sketches else sketch
            self.chunks.setdefault(half, []).append(cut(part, self.space).actions)
            self.episodes[half] = self.episodes.get(half, 0) + len(part.episodes)

    def material(self, spec: TokenizerSpec) -> Material | None:
        """Return what the tokenizer is fitted on; None where no episode is as long as a chunk."""
        halves = [False] if spec.fit_on == "val" and sum(len(c) for c in self.chunks.get(False, ())) else [False, True]
        chunks = np.concatenate([c for half in halves for c in self.chunks.get(half, ())])
        if not len(chunks):
            return None
        sketches = [self.sketches[half] for half in halves if half in self.sketches]
        sketch = sketches[0] if len(sketches) == 1 else sketches[0].merge(sketches[1])
        chosen = spread(len(chunks), MOST_CHUNKS)
        count = sum(self.episodes.get(half, 0) for half in halves)
        return Material(self.space, sketch, chunks[chosen], tuple(sorted(self.datasets)), count, len(halves) == 2)


def _batches(lake: Lake, what: str) -> Iterator[tuple[str, Batch]]:
    """Yield the chosen episodes shard by shard, in catalog order."""
    episodes = choose(lake, what).episodes
    for (dataset, name), rows in episodes.group_by("dataset", "shard", maintain_order=True):
        shard = open_shard(lake, str(dataset), str(name))
        everything = Batch(shard.contract, shard.steps)
        place = {e: i for i, e in enumerate(everything.episodes)}
        batch = everything.take([place[e] for e in rows["episode_id"]])
        yield str(dataset), Batch(batch.contract, batch.steps, groups=tuple(split_groups(rows)))
