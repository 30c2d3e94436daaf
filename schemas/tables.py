"""Arrow schemas of the catalog's Delta tables, with the key under which the latest row wins.

Every row carries `unit` (the unit of work that wrote it) and `committed_ns`. New columns are added nullable at the end and never
narrowed or renamed. Timestamps are int64 nanoseconds since the Unix epoch (UTC).
"""

from dataclasses import dataclass

import pyarrow as pa

_TAIL = [pa.field("unit", pa.string(), nullable=False), pa.field("committed_ns", pa.int64(), nullable=False)]
_S, _I, _F, _B = pa.string(), pa.int64(), pa.float64(), pa.bool_()


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """One Delta table: its schema and the columns that identify a row across rewrites."""

    name: str
    key: tuple[str, ...]
    schema: pa.Schema


def _table(name: str, key: tuple[str, ...], /, **columns: pa.DataType) -> CatalogTable:
    body = [pa.field(column, kind, nullable=column not in key) for column, kind in columns.items()]
    return CatalogTable(name, key, pa.schema([*body, *_TAIL]))


DATASETS = _table(
    "datasets", ("dataset",),
    dataset=_S, kind=_S, embodiment=_S, adapter=_S, adapter_version=_S, uri=_S, content_hash=_S, licence=_S, contract=_S,
)  # fmt: skip
EPISODES = _table(
    "episodes", ("episode_id",),
    episode_id=_S, dataset=_S, source=_S, key=_S, shard=_S, steps=_I, first_row=_I, duration_s=_F, control_hz=_F,
    cameras=pa.list_(_S), task=_S, tasks=pa.list_(_S), success=_B, split_group=_S, embodiment=_S, licence=_S, uri=_S,
    content_hash=_S, has_action=_B, bytes=_I, notes=pa.list_(_S), attributes=_S,
)  # fmt: skip
SHARDS = _table(
    "shards", ("uri",),
    uri=_S, shard=_S, kind=_S, dataset=_S, blake3=_S, rows=_I, bytes=_I, frames=_I,
)  # fmt: skip
ANNOTATIONS = _table(
    "annotations", ("annotator", "fingerprint", "shard"),
    annotator=_S, fingerprint=_S, shard=_S, dataset=_S, uri=_S, blake3=_S, rows=_I, valid_rows=_I, episodes=_I, coverage=_F, bytes=_I,
    config=_S,
)  # fmt: skip
QUALITY = _table(
    "quality", ("annotator", "fingerprint", "dataset", "metric", "split"),
    annotator=_S, fingerprint=_S, dataset=_S, metric=_S, split=_S, value=_F, ci_low=_F, ci_high=_F, episodes=_I, rows=_I, gate=_S, goal=_S,
    baselines=_S, gt_source=_S, detail=_S, split_id=_S, split_by=_S, version=_S, config=_S,
)  # fmt: skip
SCORES = _table(
    "scores", ("method", "fingerprint", "episode_id", "start_ns"),
    method=_S, fingerprint=_S, episode_id=_S, start_ns=_I, end_ns=_I, value=_F, detail=_S, se=_F,
)  # fmt: skip
DUPLICATES = _table(
    "duplicates", ("fingerprint", "kind", "episode_id", "other_id"),
    fingerprint=_S, kind=_S, episode_id=_S, other_id=_S, content_hash=_S, other_hash=_S, similarity=_F, detail=_S,
)  # fmt: skip
DECISIONS = _table(
    "decisions", ("curation", "episode_id"),
    curation=_S, episode_id=_S, spec_hash=_S, basis=_S, dataset=_S, keep=_B, gate=_S, reason=_S, value=_F, detail=_S,
)  # fmt: skip
SPLITS = _table(
    "splits", ("name", "episode_id"),
    name=_S, episode_id=_S, spec_hash=_S, basis=_S, dataset=_S, split=_S, component=_S, note=_S,
)  # fmt: skip
ATTEMPTS = _table(
    "attempts", ("source",),
    source=_S, origin=_S, of=_S, uri=_S, blake3=_S, bytes=_I, trees=_I, nodes=_I, attempts=_I, judged=_I,
)  # fmt: skip
AUDITS = _table(
    "audits", ("content", "metric", "fingerprint"),
    subject=_S, content=_S, metric=_S, fingerprint=_S, value=_F, low=_F, high=_F, n=_I, seed=_I, verdict=_S, sentence=_S, detail=_S,
)  # fmt: skip
MEMORIES = _table(
    "memories", ("name", "kind"),
    name=_S, kind=_S, model=_S, of=_S, uri=_S, blake3=_S, rows=_I, bytes=_I, settings=_S,
)  # fmt: skip
MIXTURES = _table(
    "mixtures", ("name", "hash"),
    name=_S, hash=_S, spec=_S, pins=_S, uri=_S, samples=_I, episodes=_I, shares=_S,
)  # fmt: skip
RESIDUALS = _table(
    "residuals", ("teacher", "cache_key", "shard"),
    teacher=_S, cache_key=_S, mode=_S, shard=_S, uri=_S, blake3=_S, rows=_I, bytes=_I, staleness=_F,
    dataset=_S, source_shard=_S, episodes=pa.list_(_S), episode_keys=pa.list_(_S), config=_S,
)  # fmt: skip
RUNS = _table(
    "runs", ("run", "unit"),
    run=_S, stage=_S, dataset=_S, seconds=_F, cpu_seconds=_F, rows=_I, frames=_I, bytes=_I, rejects=_I, peak_rss_mb=_F, host=_S,
    label=_S, status=_S, started_ns=_I, frames_per_s=_F, run_units=_I,
    device=_S, wait_share=_F, model_seconds=_F, device_busy=_F, halvings=_I, at_once=_I,
)  # fmt: skip
QUARANTINE = _table(
    "quarantine", ("stage", "dataset", "key"),
    stage=_S, dataset=_S, key=_S, uri=_S, error=_S, message=_S, episodes=_I, run=_S,
)  # fmt: skip
PUBLICATIONS = _table(
    "publications", ("uri",),
    uri=_S, format=_S, mixture=_S, mixture_hash=_S, episodes=_I, rows=_I, bytes=_I, content_hash=_S, verified=_B, report=_S,
)  # fmt: skip

TABLES: dict[str, CatalogTable] = {
    t.name: t
    for t in (
        DATASETS,
        EPISODES,
        SHARDS,
        ANNOTATIONS,
        QUALITY,
        SCORES,
        DUPLICATES,
        DECISIONS,
        SPLITS,
        ATTEMPTS,
        AUDITS,
        MEMORIES,
        MIXTURES,
        RESIDUALS,
        RUNS,
        QUARANTINE,
        PUBLICATIONS,
    )
}
