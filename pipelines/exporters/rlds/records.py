"""One episode of the lake as the values of one `tf.train.Example`."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.exporters.base import ExportEpisode, ExportJob
from pipelines.exporters.rlds.layout import Column, Layout
from pipelines.exporters.rlds.pictures import PictureEncoder
from pipelines.exporters.rlds.source_tree import source_record, source_values
from pipelines.formats.example import Values
from pipelines.formats.tfds_features import Tensor
from pipelines.sources.rlds.origin import Origin
from schemas.annotation import LanguageRow
from schemas.errors import ContractError
from schemas.ids import canonical_json

ABOUT = ("key", "task", "tasks", "split_group", "source", "control_hz", "duration_s", "shard", "notes")


@dataclass(frozen=True, slots=True)
class Record:
    """An episode ready to be written. `numbers` holds the values statistics want, per record key [T, ...]."""

    values: dict[str, Values]
    numbers: dict[str, npt.NDArray[Any]]
    steps: int
    copied: int
    transcoded: int


@dataclass(frozen=True, slots=True)
class RecordBuilder:
    """Turns episodes into records, one at a time."""

    job: ExportJob
    layout: Layout
    encoder: PictureEncoder

    def build(self, episode: ExportEpisode) -> Record:
        """Return one episode's record.

        Raises:
            CorruptMediaError: a picture does not decode.
            ContractError: a column holds nulls where the contract promises numbers.
        """
        if self.layout.origin is not None:
            return self._source(self.layout.origin, episode)
        shard = episode.open(self.job.lake)
        steps = shard.episode_steps(episode.episode_id)
        seen = {plan: steps.column(f"frame.{plan.camera}").to_numpy() for plan in self.layout.cameras}
        pending = {plan: self.encoder.start(shard, episode.episode_id, plan, frames) for plan, frames in seen.items()}
        values: dict[str, Values] = {}
        numbers: dict[str, npt.NDArray[Any]] = {}
        for column in self.layout.columns:
            array = step_values(steps, column, episode.episode_id)
            values[column.key] = _wire(array, column)
            if column.statistics:
                numbers[column.key] = np.asarray(array)
        values |= _flags(steps)
        values |= self._texts(steps, episode)
        copied = transcoded = 0
        for plan, waiting in pending.items():
            pictures = waiting.result()
            values[plan.key] = pictures.data
            copied, transcoded = copied + pictures.copied, transcoded + pictures.transcoded
            if plan.flag:
                values[plan.flag] = seen[plan] >= 0
        values |= {f"episode_metadata/{name}": value for name, value in metadata(self.job, episode).items()}
        return Record(values, numbers, steps.num_rows, copied, transcoded)

    def _source(self, origin: Origin, episode: ExportEpisode) -> Record:
        """Build the record in the source's own tree; its pictures are all copied."""
        values, steps = source_values(self.job, origin, episode)
        record = source_record(origin, values) | self._texts(steps, episode)
        numbers = {c.key: np.asarray(values[c.key].items) for c in self.layout.columns if c.statistics and c.key in values}
        copied = sum(len(values[f.slot.key].items) for f in origin.of_kind("camera"))
        return Record(record, numbers, steps.num_rows, copied, 0)

    def _texts(self, steps: pa.Table, episode: ExportEpisode) -> dict[str, Values]:
        rows, found = self.job.language.get(episode.episode_id, ()), dict[str, Values]()
        for texts in self.layout.texts:
            chosen = [r for r in rows if (r.style, r.camera) == (texts.style, texts.camera)]
            found[texts.key] = [t.encode() for t in active_texts(chosen, steps.column("t_ns").to_pylist())]
        return found


def step_values(steps: pa.Table, column: Column, episode_id: str) -> npt.NDArray[Any] | list[str]:
    """Return a column's values [T, *shape] in the dtype it is stored with; texts as a list.

    Raises:
        ContractError: the column holds nulls.
    """
    chunks = steps.column(column.source)
    if not isinstance(column.leaf, Tensor):
        return [text or "" for text in chunks.to_pylist()]
    if chunks.null_count:
        raise ContractError(
            f"{episode_id}: {column.source} is null at {chunks.null_count} of {steps.num_rows} steps; RLDS has no null number. "
            "Leave the episode or the feature out",
            episode=episode_id,
        )
    array: Any = chunks.combine_chunks()
    flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    values = flat.to_numpy(zero_copy_only=False)
    return values.reshape(steps.num_rows, *column.leaf.shape).astype(column.leaf.dtype, copy=False)


def active_texts(rows: Sequence[LanguageRow], times: Sequence[int]) -> list[str]:
    """Return for each time the text of the last row that started at or before it, empty before the first."""
    starts = [row.start_ns for row in rows]
    return [rows[at - 1].text if (at := bisect_right(starts, t)) else "" for t in times]


def metadata(job: ExportJob, episode: ExportEpisode) -> dict[str, Values]:
    """Return the values of `episode_metadata`."""
    row: Mapping[str, Any] = episode.row
    about = {name: row.get(name) for name in ABOUT} | {"attributes": json.loads(row.get("attributes") or "{}")}
    texts = {
        "episode_id": episode.episode_id, "file_path": row.get("uri"), "source_dataset": episode.dataset,
        "content_hash": row.get("content_hash"), "license": row.get("licence") or job.contract.licence,
        "embodiment": row.get("embodiment") or job.contract.embodiment, "json": canonical_json(about).decode(),
    }  # fmt: skip
    success = row.get("success")
    fps = row.get("control_hz") or job.contract.control_hz or 0.0
    numbers = {"success": np.array([-1 if success is None else int(success)]), "fps": np.array([fps], np.float32)}
    return {**{name: [str(text or "").encode()] for name, text in texts.items()}, **numbers}


def _wire(array: npt.NDArray[Any] | list[str], column: Column) -> Values:
    if isinstance(array, list):
        return [text.encode() for text in array]
    if column.leaf.wire == "bytes":
        return [row.tobytes() for row in np.ascontiguousarray(array)]
    return array.reshape(-1)


def _flags(steps: pa.Table) -> dict[str, Values]:
    texts = steps.column("language").to_pylist()
    coded = {text: (text or "").encode() for text in set(texts)}
    return {
        "steps/reward": np.asarray(steps.column("reward").fill_null(0.0)),
        "steps/discount": np.asarray(steps.column("discount").fill_null(1.0)),
        **{f"steps/{name}": steps.column(name).to_numpy() for name in ("is_first", "is_last", "is_terminal")},
        "steps/timestamp_ns": steps.column("t_ns").to_numpy(),
        "steps/language_instruction": [coded[text] for text in texts],
    }
