"""Finds near-duplicate episodes: candidates by sorting bands of sketches, then every pair verified; one unit for a selection.

Pairs go to the table `duplicates`. Which copy stays is a curation's business.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.curate.sketches import SketchStage, read_sketches
from pipelines.unit import MARKER, Output, Unit
from schemas.curation import KINDS, DuplicateKind
from schemas.errors import LakeError
from schemas.ids import short_id, unit_id
from transforms.curation.lsh import I64, equal_bands
from transforms.curation.shingles import U32, jaccard
from transforms.curation.visual import BITS, KEYFRAMES, aligned_distance, band_signatures, contrast, is_same
from transforms.rotation import F64

CODE = "1"
BANDS, HOPELESS = 32, 0.25  # bands of 4 of 128 MinHash values; estimated Jaccard below which a pair is not worth verifying
JACCARD, CONTAINED = 0.6, 0.85
DIFFERENT = 0.2  # trajectories that share less than this are two motions, whatever the pictures say
AT_ONCE = 50_000  # pairs whose shingle sets are in memory together

Pair = tuple[int, int, float, dict[str, Any]]  # two rows, their similarity, and what else is worth knowing


@dataclass(frozen=True, slots=True)
class DuplicateStage:
    """Compare every episode of a selection with every other one, within and across datasets and splits. Run it after `SketchStage`."""

    lake: Lake
    what: str = "all"
    kinds: tuple[DuplicateKind, ...] = KINDS
    name: str = "duplicates"

    def plan(self) -> Sequence[Unit]:
        """One unit for the whole selection."""
        sketched = SketchStage(self.lake, self.what, self.kinds).plan()
        name = unit_id(self.name, [u.id for u in sketched], sorted(self.kinds), CODE)
        return [Unit(name, self.name, "", f"duplicates among {sum(u.episodes for u in sketched)} episodes", sketched)]

    def work(self, unit: Unit) -> Output:
        """Find and verify pairs.

        Raises:
            LakeError: a shard has not been sketched.
        """
        done = Catalog(self.lake).committed_units(MARKER)
        if absent := [u for u in unit.payload if u.id not in done]:
            raise LakeError(
                f"{len(absent)} of {len(unit.payload)} shards are not sketched; run `cotrain curate duplicates` without --limit"
            )
        columns = ("episode_id", "content_hash", "split", "exact", "space", "minhash", "cameras", "hashes")
        rows = read_sketches(self.lake, unit.payload, columns)
        finders: dict[str, Callable[[pl.DataFrame], Iterator[Pair]]] = {
            "exact": exact_pairs, "trajectory": self._trajectories(unit.payload), "visual": visual_pairs,
        }  # fmt: skip
        found: list[dict[str, Any]] = []
        for kind in self.kinds:
            found += [self._row(rows, kind, *pair) for pair in finders[kind](rows)]
        return Output((), {"duplicates": pa.Table.from_pylist(found)} if found else {}, (), len(found))

    def fingerprint(self, kind: DuplicateKind) -> str:
        """Identify how pairs of one kind are found."""
        return short_id("fp", ["duplicates", CODE, kind])

    def _trajectories(self, units: Sequence[Unit]) -> "Callable[[pl.DataFrame], Iterator[Pair]]":
        shards = {u.payload[0]: u for u in units}

        def sets(rows: pl.DataFrame, at: I64) -> dict[int, U32]:
            wanted = rows[at.tolist()].select("episode_id", "shard").with_columns(at=pl.Series(at))
            found: dict[int, U32] = {}
            for (shard,), some in wanted.group_by(["shard"], maintain_order=True):
                told = read_sketches(self.lake, [shards[str(shard)]], ("episode_id", "shingles")).join(
                    some.select("episode_id", "at"), on="episode_id"
                )
                found |= {a: s.to_numpy() for a, s in zip(told["at"], told["shingles"], strict=True)}
            return found

        return lambda rows: trajectory_pairs(rows, sets)

    def _row(
        self, rows: pl.DataFrame, kind: DuplicateKind, a: int, b: int, similarity: float, more: dict[str, Any]
    ) -> dict[str, Any]:
        one, other = rows.row(a, named=True), rows.row(b, named=True)
        if one["episode_id"] > other["episode_id"]:
            one, other = other, one
        splits = one["split"], other["split"]
        detail = more | {
            "across_datasets": one["dataset"] != other["dataset"], "across_splits": None not in splits and splits[0] != splits[1],
        }  # fmt: skip
        return {
            "fingerprint": self.fingerprint(kind), "kind": kind, "episode_id": one["episode_id"], "other_id": other["episode_id"],
            "content_hash": one["content_hash"], "other_hash": other["content_hash"], "similarity": similarity, "detail": json.dumps(detail),
        }  # fmt: skip


def exact_pairs(rows: pl.DataFrame) -> Iterator[Pair]:
    """Yield pairs of rows whose decoded content is the same: of each group, the first with every other."""
    told = rows.with_row_index("at").filter(pl.col("exact").is_not_null())
    for _, group in told.group_by("exact", maintain_order=True):
        first, *others = group["at"].to_list()
        yield from ((first, other, 1.0, {}) for other in others)


def trajectory_pairs(rows: pl.DataFrame, sets: Callable[[pl.DataFrame, I64], dict[int, U32]]) -> Iterator[Pair]:
    """Yield verified pairs of rows of one space: exact Jaccard of at least .6, or one shape contained in the other to .85.

    `sets` returns the shingles of some rows; it is asked for those of a bounded number of pairs at a time.
    """
    for _, group in rows.with_row_index("at").filter(pl.col("space").is_not_null()).group_by("space", maintain_order=True):
        at = group["at"].to_numpy().astype(np.int64)
        signatures = _matrix(group["minhash"], np.uint32)
        candidates = equal_bands(signatures, BANDS)
        estimate = _agreement(signatures, candidates)
        pairs = at[candidates[estimate >= HOPELESS]]
        for first in range(0, len(pairs), AT_ONCE):
            part = pairs[first : first + AT_ONCE]
            held = sets(rows, np.unique(part))
            for a, b in part.tolist():
                share, contained = jaccard(held[a], held[b])
                if share >= JACCARD or contained >= CONTAINED:
                    yield a, b, max(share, contained), {"jaccard": share, "contained": contained}


def visual_pairs(rows: pl.DataFrame) -> Iterator[Pair]:
    """Yield pairs of rows that look alike on every camera they share, unless their trajectories say otherwise."""
    at, camera, hashes = _looks(rows)
    if not len(at):
        return
    lively = contrast(hashes)
    pairs = equal_bands(band_signatures(hashes), BANDS)
    pairs = pairs[at[pairs[:, 0]] != at[pairs[:, 1]]]
    distance = aligned_distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]])
    same = is_same(distance, lively[pairs[:, 0]], lively[pairs[:, 1]])
    matched: dict[tuple[int, int], dict[str, float]] = {}
    for (i, j), d in zip(pairs[same].tolist(), distance[same].tolist(), strict=True):
        seen = matched.setdefault((int(at[i]), int(at[j])), {})
        seen[camera[i]] = min(d, seen.get(camera[i], float(BITS)))
    minhash = rows["minhash"].to_list() if "minhash" in rows.columns else [None] * rows.height
    cameras = rows["cameras"].to_list()
    for (a, b), seen in sorted(matched.items()):
        if len(seen) < min(len(cameras[a]), len(cameras[b])) or _other_motion(rows, minhash, a, b):
            continue
        yield a, b, 1 - max(seen.values()) / BITS, {"bits": seen}


def _other_motion(rows: pl.DataFrame, minhash: list[Any], a: int, b: int) -> bool:
    if minhash[a] is None or minhash[b] is None or rows["space"][a] != rows["space"][b]:
        return False
    return float((np.array(minhash[a]) == np.array(minhash[b])).mean()) < DIFFERENT


def _looks(rows: pl.DataFrame) -> tuple[I64, list[str], Any]:
    """Return one entry per (episode, camera): its row, its camera, and its 16 hashes uint64[N, 16]."""
    at, cameras, hashes = list[int](), list[str](), list[Any]()
    for i, (names, own) in enumerate(rows.select("cameras", "hashes").iter_rows()):
        for k, name in enumerate(names or ()):
            at.append(i)
            cameras.append(name)
            hashes.append(own[k * KEYFRAMES : (k + 1) * KEYFRAMES])
    return np.array(at, np.int64), cameras, np.array(hashes, np.uint64).reshape(-1, KEYFRAMES)


def _agreement(signatures: U32, pairs: I64) -> F64:
    """Share of equal values, an estimate of Jaccard, float64[P]; in pieces, so that memory stays small."""
    parts = [(signatures[p[:, 0]] == signatures[p[:, 1]]).mean(1) for p in np.array_split(pairs, len(pairs) // 100_000 + 1)]
    return np.concatenate(parts)


def _matrix(column: pl.Series, kind: Any) -> Any:
    return column.explode().to_numpy().astype(kind, copy=False).reshape(len(column), -1)
