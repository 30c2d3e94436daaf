"""The sketch stage: what near-duplicates are recognised by, one side table per shard.

Of each episode: a digest of its decoded content, perceptual hashes of its keyframes, and the shape of its trajectory as a set with
its MinHash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from catalog.lake import Lake
from pipelines.curate.scores import held_episodes
from pipelines.curate.spaces import Space, find_spaces
from pipelines.curate.subject import ROW, read_evidence, seeing_cameras
from pipelines.lint.evidence import CHUNK, split_of
from pipelines.publish import publish, temporary_for
from pipelines.shards.reader import Shard, open_shard
from pipelines.unit import Output, Unit
from schemas.curation import KINDS, DuplicateKind
from schemas.errors import DataError, UsageError
from schemas.ids import short_id, unit_id
from transforms.curation.shingles import LEAST, minhash, shingles
from transforms.curation.signals import read_numbers, read_signals
from transforms.curation.visual import keyframe_steps, perceptual_hash
from transforms.grid import SECOND
from transforms.lint.base import Evidence

CODE, NAME = "1", "near_duplicate_sketch"
FLAT = 4.0  # standard deviation of a picture that shows nothing

SKETCH = pa.schema(
    [
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string()),
        pa.field("split", pa.string()),  # as the source has it
        pa.field("exact", pa.string()),  # digest of decoded content; null where some of it does not decode
        pa.field("space", pa.string()),  # trajectories of one space can be compared; null: no motion to compare
        pa.field("minhash", pa.list_(pa.uint32())),
        pa.field("shingles", pa.list_(pa.uint32())),
        pa.field("cameras", pa.list_(pa.string())),
        pa.field("hashes", pa.list_(pa.uint64())),  # 16 per camera
    ]
)


@dataclass(frozen=True, slots=True)
class SketchStage:
    """Sketch every episode of each shard that holds a chosen one.

    Attributes:
        lake: where the shards are.
        what: see `pipelines.selection.choose`.
        kinds: which duplicates are looked for: `exact` decodes every picture, `visual` 16 per camera, `trajectory` none.
    """

    lake: Lake
    what: str = "all"
    kinds: tuple[DuplicateKind, ...] = KINDS
    name: str = "sketch"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.kinds) - set(KINDS)) or not self.kinds:
            raise UsageError(f"{unknown or 'nothing'} is no kind of duplicate; use {', '.join(KINDS)}")

    def plan(self) -> Sequence[Unit]:
        """One unit per shard. Which trajectories are comparable, and their scales, are found first, from a few episodes of each dataset."""
        rows = held_episodes(self.lake, self.what)
        spaces = find_spaces(self.lake, rows) if "trajectory" in self.kinds else {}
        units: list[Unit] = []
        for (dataset, shard), held in rows.group_by(["dataset", "shard"], maintain_order=True):
            space = spaces.get(str(dataset))
            settings = {"kinds": sorted(self.kinds), "space": asdict(space) if space else None}
            name = unit_id(self.name, [shard, held.select("episode_id", "content_hash").rows()], settings, CODE)
            payload = (str(shard), held.select(*ROW, "content_hash").to_dicts(), space, short_id("fp", [NAME, CODE, settings]))
            units.append(Unit(name, self.name, str(dataset), f"sketch {dataset}/{shard}", payload, episodes=held.height))
        return units

    def work(self, unit: Unit) -> Output:
        """Sketch the episodes of one shard."""
        name, rows, space, fingerprint = unit.payload
        shard = open_shard(self.lake, unit.dataset, name)
        table = pa.Table.from_pylist([sketch(shard, row, self.kinds, space) for row in rows], schema=SKETCH)
        target = self.lake.annotation(NAME, fingerprint, name)
        with temporary_for(self.lake, target) as path:
            pq.write_table(table, path, compression="zstd")
            file = publish(self.lake, path, target)
        row = {
            "annotator": NAME, "fingerprint": fingerprint, "shard": name, "dataset": unit.dataset, "uri": file.path, "blake3": file.blake3,
            "rows": len(rows), "valid_rows": len(rows), "episodes": len(rows), "coverage": 1.0, "bytes": file.bytes, "config": None,
        }  # fmt: skip
        return Output(
            (file,), {"annotations": pa.Table.from_pylist([row])}, (), len(rows), sum(r["steps"] for r in rows), file.bytes
        )


def sketch(shard: Shard, row: dict[str, Any], kinds: Sequence[DuplicateKind], space: Space | None) -> dict[str, Any]:
    """Return one row of `SKETCH`."""
    it = read_evidence(shard, row)
    found: dict[str, Any] = {
        "episode_id": row["episode_id"], "content_hash": row["content_hash"], "split": split_of(it.facts.attributes),
    }  # fmt: skip
    if "trajectory" in kinds and space is not None:
        period = max(float(np.median(np.diff(it.t_ns))), 1.0) if it.count > 1 else float(SECOND)
        items = shingles(read_numbers(it), space.scale_array, SECOND / period)
        if len(items) >= LEAST:
            found |= {"space": space.name, "shingles": items, "minhash": minhash(items)}
    cameras = seeing_cameras(it)
    if "visual" in kinds:
        seen = {c: h for c in cameras if (h := _keyframes(shard, it, c)) is not None}
        found |= {"cameras": list(seen), "hashes": [h for c in seen for h in seen[c]]}
    if "exact" in kinds:
        found["exact"] = _content(shard, it, cameras)
    return found


def _keyframes(shard: Shard, it: Evidence, camera: str) -> list[int] | None:
    """Hash a camera's keyframes; None where it shows nothing or does not decode."""
    seen = it.seen(camera)
    steps = np.flatnonzero(seen >= 0)
    if not len(steps):
        return None
    chosen = keyframe_steps(read_signals(it), steps, it.t_ns)
    try:
        pictures = shard.read(it.row["episode_id"], camera, seen[chosen])
    except DataError:
        return None
    if float(np.median([p.std() for p in pictures])) < FLAT:
        return None
    return [perceptual_hash(p) for p in pictures]


def _content(shard: Shard, it: Evidence, cameras: list[str]) -> str | None:
    """Digest every number of state and action (as float32) and every decoded picture; None where a picture does not decode.

    A re-muxed or losslessly re-encoded copy has the same digest; packets would differ.
    """
    hasher = blake3()
    for feature in [*it.states, *([it.action] if it.action is not None else [])]:
        hasher.update(np.ascontiguousarray(it.values(feature), np.float32).tobytes())
    try:
        for camera in cameras:
            seen = np.unique(it.seen(camera))
            for pictures in _pictures(shard, it, camera, seen[seen >= 0]):
                hasher.update(np.ascontiguousarray(pictures).tobytes())
    except DataError:
        return None
    return hasher.hexdigest(16)


def _pictures(shard: Shard, it: Evidence, camera: str, frames: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.uint8]]:
    for at in range(0, len(frames), CHUNK):
        yield shard.read(it.row["episode_id"], camera, frames[at : at + CHUNK])


def read_sketches(lake: Lake, units: Sequence[Unit], columns: Sequence[str]) -> pl.DataFrame:
    """Return some columns of the sketches that these units made, in their order, with `dataset` and `shard`."""
    frames: list[pl.DataFrame] = []
    for unit in units:
        path = lake.annotation(NAME, unit.payload[3], unit.payload[0])
        with lake.fs.open(path, "rb") as file:
            rows = pl.from_arrow(pq.read_table(file, columns=list(columns)))
        assert isinstance(rows, pl.DataFrame)
        frames.append(rows.with_columns(dataset=pl.lit(unit.dataset), shard=pl.lit(unit.payload[0])))
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys((*columns, "dataset", "shard"), pl.String))
