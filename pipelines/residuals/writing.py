"""Rows become files: one record batch of uncompressed columns that can be mapped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.residuals.config import CacheConfig
from pipelines.residuals.keys import EpisodeRef
from pipelines.residuals.teacher import TeacherSpec
from schemas.residuals import SPARSE, CachedEpisode, CacheHeader, CacheShape, residual_schema
from transforms.noise import seed_of

type Columns = dict[str, npt.NDArray[Any]]


@dataclass
class CacheWriter:
    """Gathers the parts of whole episodes and turns them into a table."""

    spec: TeacherSpec
    config: CacheConfig
    key: str
    episodes: list[CachedEpisode] = field(default_factory=list[CachedEpisode])
    rows: list[Columns] = field(default_factory=list[Columns])
    count: int = 0

    def add(self, ref: EpisodeRef, parts: Sequence[tuple[Columns, Columns]]) -> None:
        """Add one episode, all of its parts in order."""
        number, size = len(self.episodes), sum(len(rows["draw"]) for rows, _ in parts)
        frames = size // self.config.draws
        self.episodes.append(
            CachedEpisode(ref.episode_id, ref.key, ref.dataset, ref.content_hash, ref.contract, ref.first, frames, self.count)
        )
        for rows, shared in parts:
            audited = audit_frames(ref, rows["frame_index"].tolist(), self.config.audit_share)
            own = {"episode_index": np.full(len(rows["draw"]), number, np.int64), "_audited": audited}
            self.rows.append({**rows, **shared, **own})
        self.count += size

    def table(self, snr_db: float | None = None) -> pa.Table:
        """Return the rows, with the header in their schema."""
        shape = self._shape()
        header = CacheHeader(
            self.spec.teacher_id, self.key, self.spec.kind, shape, self.config.draws, self.config.video_draws, self.config.stride,
            tuple(self.episodes), snr_db,
        )  # fmt: skip
        schema = residual_schema(shape)
        return pa.table([_column(f, self.rows) for f in schema], schema=schema.with_metadata(header.to_metadata()))

    def _shape(self) -> CacheShape:
        first = self.rows[0]
        tokens, top_k, vocabulary = first.get("_tokens", np.zeros(3, int)).tolist()
        return CacheShape(
            self.config.mode, self.spec.horizon, self.spec.action_dim, self.spec.width, tokens, top_k, vocabulary,
            tuple(first.get("_hidden", np.empty(0, int)).tolist()), self.config.store_noise,
            first["context"].shape[1] if "context" in first else 0,
        )  # fmt: skip


def audit_frames(ref: EpisodeRef, frames: Sequence[int], share: float) -> npt.NDArray[np.bool_]:
    """Choose the rows whose float32 values are kept: this share of the frames by hash, and each episode's first."""
    limit = int(share * (1 << 64))
    return np.array([f == ref.first or seed_of("audit", ref.episode_id, f) < limit for f in frames]) & (share > 0)


def write_ipc(table: pa.Table, path: Path) -> None:
    """Write a table as an Arrow file of one batch."""
    with pa.ipc.new_file(str(path), table.schema) as out:
        for batch in table.combine_chunks().to_batches(max_chunksize=max(table.num_rows, 1)):
            out.write_batch(batch)


def _column(kind: pa.Field, parts: Sequence[Columns]) -> pa.Array:
    if kind.name in SPARSE:
        return _sparse(kind, parts)
    values = np.concatenate([p[kind.name] for p in parts])
    if pa.types.is_fixed_size_binary(kind.type):
        width = kind.type.byte_width
        flat = np.ascontiguousarray(values, np.uint8)
        return pa.Array.from_buffers(kind.type, len(values), [None, pa.py_buffer(flat.reshape(-1, width))])
    if pa.types.is_fixed_size_list(kind.type):
        flat = np.ascontiguousarray(values).reshape(-1).astype(kind.type.value_type.to_pandas_dtype(), copy=False)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind.type)
    return pa.array(values, kind.type)


def _sparse(kind: pa.Field, parts: Sequence[Columns]) -> pa.Array:
    """Return a column with values in the audited rows, or in every frame's first."""
    audit = kind.name == "audit_fp32"
    chosen = np.concatenate([p["_audited"] if audit else p["draw"] == 0 for p in parts])
    kept = np.concatenate([p[kind.name][p["_audited"]] if audit else p[kind.name] for p in parts]).astype(np.float32)
    ends = np.cumsum(np.where(chosen, kept.shape[1], 0))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(kept.reshape(-1)), type=kind.type, mask=pa.array(~chosen))
