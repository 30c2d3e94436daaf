"""LeRobot v3.0 metadata: many episodes per parquet and mp4 file, found through `meta/episodes`.

Unusable metadata is one error that names everything wrong with it; a file that is only missing is found when it is read.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.lerobot.info import INFO, CameraSpec, Info, check_template, parse_info
from pipelines.sources.lerobot.rows import EpisodeRow, Listing, VideoSpan
from schemas.errors import MalformedSourceError

EPISODES, TASKS = "meta/episodes", "meta/tasks.parquet"
PANDAS_INDEX = "__index_level_0__"
SHOWN_PROBLEMS = 6


@dataclass(frozen=True, slots=True)
class V3:
    """The v3.0 layout: a checked declaration, and how to read the tables beside it."""

    info: Info

    @classmethod
    def open(cls, root: Path, raw: Mapping[str, Any]) -> "V3":
        """Check `raw`, the content of `info.json`.

        Raises:
            MalformedSourceError: it cannot be used; the message lists what is wrong.
        """
        problems: list[str] = []
        info = parse_info(root, raw, problems)
        check_template("data_path", raw.get("data_path"), {"chunk_index", "file_index"}, problems)
        if any(c.storage == "video" for c in info.cameras):
            check_template("video_path", raw.get("video_path"), {"video_key", "chunk_index", "file_index"}, problems)
        if problems:
            raise _malformed(root / INFO, problems + _strays(root), raw)
        return cls(info)

    def listing(self) -> Listing:
        """List every episode that `meta/episodes` describes, in table order.

        Raises:
            MalformedSourceError: the tables are absent, unreadable or lack a needed column.
        """
        root, raw = self.info.root, self.info.raw
        files = sorted((root / EPISODES).glob("*/*.parquet"))
        if not files:
            raise _malformed(root / EPISODES, ["no chunk-*/file-*.parquet there"], raw)
        rows = tuple(row for path in files for row in self._rows_of(path))
        seen = Counter(r.index for r in rows)
        if twice := [e for e, n in seen.items() if n > 1]:
            raise _malformed(root / EPISODES, [f"episode {twice[0]} has {seen[twice[0]]} rows"], raw)
        total = raw.get("total_episodes", len(rows))
        missing = max(0, total - sum(r.index < total for r in rows)) if isinstance(total, int) else 0
        steps = sum(r.length for r in rows)
        notes = (
            [] if raw.get("total_frames", steps) == steps else [f"{INFO} says {raw['total_frames']} frames, {EPISODES} {steps}"]
        )
        return Listing(rows, missing, (*notes, *_strays(root)))

    def tasks(self) -> dict[int, str]:
        """Return each task's text by its index: pandas keeps the text in the index, other writers in a column.

        Raises:
            MalformedSourceError: the table is absent, unreadable, or holds no texts.
        """
        path = self.info.root / TASKS
        table = _read(path)
        text = next((c for c in ("task", PANDAS_INDEX) if c in table.column_names), None)
        if (
            text is None
            or "task_index" not in table.column_names
            or not pa.types.is_string(_plain(table.schema.field(text).type))
        ):
            raise _malformed(
                path, [f"it has the columns {table.column_names}, not task_index and the text in task"], self.info.raw
            )
        return dict(zip(table.column("task_index").to_pylist(), table.column(text).to_pylist(), strict=True))

    def shared_files(self) -> list[Path]:
        """List the task table; the declaration is in the contract and episode rows are inputs themselves."""
        return [self.info.root / TASKS]

    def _rows_of(self, path: Path) -> list[EpisodeRow]:
        videos = [c for c in self.info.cameras if c.storage == "video"]
        wanted = ["episode_index", "length", "dataset_from_index", "dataset_to_index", "data/chunk_index", "data/file_index"]
        for spec in videos:
            wanted += [f"videos/{spec.key}/{n}" for n in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
        table = _read(path, wanted)
        problems = [f"column {n!r} appears {k} times" for n, k in Counter(table.column_names).items() if k > 1]
        problems += [f"column {n!r} is absent" for n in wanted if n not in table.column_names]
        if not problems:
            problems = [f"column {n!r} has empty cells" for n in wanted if table.column(n).null_count]
        if problems:
            raise _malformed(path, problems, self.info.raw)
        return [self._row(r, videos) for r in table.select(wanted).to_pylist()]

    def _row(self, row: Mapping[str, Any], videos: list[CameraSpec]) -> EpisodeRow:
        data = self.info.raw["data_path"].format(chunk_index=int(row["data/chunk_index"]), file_index=int(row["data/file_index"]))
        spans: list[VideoSpan] = []
        for spec in videos:
            prefix = f"videos/{spec.key}/"
            chunk, number = int(row[prefix + "chunk_index"]), int(row[prefix + "file_index"])
            file = self.info.raw["video_path"].format(video_key=spec.key, chunk_index=chunk, file_index=number)
            start, end = float(row[prefix + "from_timestamp"]), float(row[prefix + "to_timestamp"])
            spans.append(VideoSpan(spec.camera.name, file, start, end))
        first, stop = int(row["dataset_from_index"]), int(row["dataset_to_index"])
        return EpisodeRow(int(row["episode_index"]), int(row["length"]), first, stop, data, tuple(spans))


def _strays(root: Path) -> list[str]:
    return [f"{EPISODES}/{p.name} lies outside any chunk folder" for p in sorted((root / EPISODES).glob("*.parquet"))]


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a metadata table; `columns` leaves the statistics, which are nearly all of its bytes, on disk."""
    try:
        with pq.ParquetFile(path) as file:
            known = [c for c in columns if c in file.schema_arrow.names] if columns is not None else None
            return file.read(columns=known)
    except FileNotFoundError as error:
        raise MalformedSourceError(f"{path} does not exist, and without it the dataset cannot be read", uri=str(path)) from error
    except (pa.ArrowException, OSError) as error:
        raise MalformedSourceError(f"{path} is not a readable parquet file: {error}", uri=str(path)) from error


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(kind) else kind


def _malformed(path: Path, problems: list[str], raw: Mapping[str, Any]) -> MalformedSourceError:
    some = "; ".join(problems[:SHOWN_PROBLEMS])
    more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    claim = f"codebase_version says {raw.get('codebase_version')}"
    return MalformedSourceError(
        f"{path} is malformed ({claim}): {some}{more}. Repair the metadata, or export the set again", uri=str(path)
    )
