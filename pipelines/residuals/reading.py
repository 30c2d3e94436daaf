"""Frames of a mixture's episodes as the loader's batches, each episode in parts of nearly equal size, read one part ahead."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.loader.fields import Windows
from pipelines.mixture.manifest import Mixture
from pipelines.residuals.keys import EpisodeRef, contract_digest, dataset_version, episode_key
from pipelines.residuals.teacher import Needs
from schemas.contract import Contract
from schemas.errors import LakeError, UsageError
from schemas.mixture import WindowSpec


@dataclass(frozen=True, slots=True)
class Part:
    """Some frames of one episode, in order, and the loader's batch of them."""

    ref: EpisodeRef
    frames: tuple[int, ...]
    batch: dict[str, Any]


@dataclass(frozen=True)
class EpisodeReader:
    """Reads one dataset's frames the way a teacher wants them."""

    lake: Lake
    contract: Contract
    windows: Windows
    needs: Needs

    @cached_property
    def version(self) -> str:
        """What a sub-key says of the dataset."""
        plain = asdict(self.windows) if isinstance(self.windows, WindowSpec) else dict(self.windows)
        return dataset_version(self.contract, self.needs, plain)

    @cached_property
    def _tools(self) -> tuple[Any, Any]:
        from pipelines.loader.collate import Collate, layout
        from pipelines.loader.fields import check_keys, fields_of
        from pipelines.loader.samples import SampleReader

        keys = None if self.needs.keys is None else list(self.needs.keys)
        check_keys([self.contract], self.windows, keys)
        fields = {self.contract.dataset: fields_of(self.contract, self.windows, keys)}
        match, goal = (self.windows.match, self.windows.goal) if isinstance(self.windows, WindowSpec) else ("nearest", None)
        reader = SampleReader(self.lake, fields, match, self.needs.image_size, goal=goal)
        return reader, Collate(layout(fields.values(), self.needs.image_size))

    def read(self, ref: EpisodeRef, frames: Sequence[int]) -> Part:
        """Return one part.

        Raises:
            DataError: a picture or a column of the episode cannot be read.
        """
        from pipelines.loader.episode import episode_view
        from pipelines.mixture.index import IndexRow

        reader, collate = self._tools
        view = episode_view(self.lake, ref.dataset, ref.shard, ref.episode_id)
        row = IndexRow("", "train", ref.episode_id, ref.dataset, ref.shard, view.first_row, len(view.t_ns))
        return Part(ref, tuple(frames), collate([reader.read(row, f) | {"index": f} for f in frames]))

    def parts(self, refs: Sequence[EpisodeRef], batch: int, stride: int) -> Iterator[Part | tuple[EpisodeRef, Exception]]:
        """Yield every part of the episodes in order, read one ahead; an episode that cannot be read yields its error once."""
        wanted = [(ref, frames) for ref in refs for frames in split(range(ref.first, ref.stop, stride), batch)]
        broken: set[str] = set()
        with ThreadPoolExecutor(1) as pool:
            ahead: Future[Part] | None = None
            for number, (ref, frames) in enumerate(wanted):
                now = ahead or pool.submit(self.read, ref, frames)
                ahead = pool.submit(self.read, *wanted[number + 1]) if number + 1 < len(wanted) else None
                try:
                    part = now.result()
                except Exception as error:
                    if ref.episode_id not in broken:
                        broken.add(ref.episode_id)
                        yield ref, error
                    continue
                if ref.episode_id not in broken:
                    yield part


def split(frames: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Cut frames into parts of at most `most`, of nearly equal size."""
    count = -(-len(frames) // most)
    bounds = [len(frames) * i // max(count, 1) for i in range(count + 1)]
    return [tuple(frames[a:b]) for a, b in pairwise(bounds)]


def readers_of(mixture: Mixture, needs: Needs, datasets: Sequence[str]) -> dict[str, EpisodeReader]:
    """Return a reader per dataset.

    Raises:
        UsageError: a window is stated in frames and the dataset states no control rate.
    """
    return {
        name: EpisodeReader(mixture.lake, mixture.contracts[name], _windows(mixture, needs, mixture.contracts[name]), needs)
        for name in datasets
    }


def _windows(mixture: Mixture, needs: Needs, contract: Contract) -> Windows:
    if needs.deltas is None:
        return mixture.spec.windows
    if not contract.control_hz:
        raise UsageError(
            f"dataset {contract.dataset} states no control rate, and the teacher counts its windows in frames; state the rate in a "
            "contract overlay"
        )
    hz = contract.control_hz
    return {key: [delta / hz for delta in deltas] for key, deltas in needs.deltas.items()}


def episodes_of(mixture: Mixture, key: str, readers: Mapping[str, EpisodeReader], sources: Sequence[str]) -> list[EpisodeRef]:
    """Return the episodes that some sources of a mixture draw or hold out, each once, with their sub-keys, in catalog order.

    Raises:
        LakeError: the catalog no longer knows an episode of the mixture.
    """
    frame = mixture.index.frame().filter(pl.col("source").is_in(list(sources)))
    spans = frame.group_by("episode_id").agg(
        pl.col("dataset").first(), pl.col("shard").first(), pl.col("first_row").min(),
        (pl.col("first_row") + pl.col("steps")).max().alias("stop"),
    )  # fmt: skip
    known = Catalog(mixture.lake).latest("episodes", mixture.pins.get("episodes"))
    known = known.select("episode_id", "content_hash", pl.col("first_row").alias("begin")).collect()
    rows = spans.join(known, on="episode_id", how="left").sort("dataset", "shard", "first_row")
    if rows["content_hash"].null_count():
        lost = rows.filter(pl.col("content_hash").is_null())["episode_id"][0]
        raise LakeError(f"the catalog no longer knows {lost}, an episode of mixture {mixture.name}; mix again")
    refs: list[EpisodeRef] = []
    for row in rows.iter_rows(named=True):
        first, stop = row["first_row"] - row["begin"], row["stop"] - row["begin"]
        ref = EpisodeRef(row["dataset"], row["shard"], row["episode_id"], row["content_hash"], first, stop)
        reader = readers[ref.dataset]
        refs.append(replace(ref, key=episode_key(key, reader.version, ref), contract=contract_digest(reader.contract)))
    return refs
