"""Renders the report: one self-contained HTML page, pictures inline, nothing fetched from anywhere."""

import base64
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.publish import PublishedFile, publish_bytes
from pipelines.report.contact_sheet import contact_sheet, episode_duration_ns
from pipelines.report.gather import SourceRow, exports, mixture, quarantine, sources, totals
from pipelines.report.model import Command, ReportInput, Segment
from pipelines.shards.reader import Shard, open_shard
from pipelines.sources.base import natural_key
from schemas.errors import CorruptMediaError, UsageError
from schemas.ids import is_slug
from transforms.motion_text import STILL

COLOURS = 10  # classes c0 ... c9 of the template
CAMERAS = 3  # sheets per episode
SECOND = 1_000_000_000

DEFAULT_COMMANDS = (
    Command("cotrain ls", "datasets, mixtures and exports of the lake"),
    Command('cotrain query "SELECT dataset, count(*), sum(duration_s) FROM episodes GROUP BY dataset"', "any question, in SQL"),
    Command('cotrain query "SELECT dataset, key, error, message FROM quarantine"', "what could not be used, and why"),
    Command('cotrain query "SELECT stage, count(*), sum(seconds), sum(frames) FROM runs GROUP BY stage"', "what the work cost"),
)


def build_report(lake: Lake, catalog: Catalog, report: ReportInput) -> str:
    """Return the page.

    Args:
        lake: where the shards are; pictures are decoded from them.
        catalog: its tables: totals, sources, exports (unless `report` brings them), quarantine.
        report: what the catalog does not know.
    """
    shown = exports(catalog) if report.exports is None else report.exports
    mixed = report.mixture or mixture(catalog)
    held = quarantine(catalog)
    values = {
        "title": report.title,
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "lake": lake.root,
        "totals": asdict(totals(catalog)),
        "sources": [_source(lake, catalog, row, report) for row in sources(catalog)],
        "mixture": None if mixed is None else asdict(mixed),
        "exports": [asdict(e) for e in shown],
        "quarantine": list(held.iter_rows(named=True)),
        "stages": [asdict(s) for s in report.stages],
        "commands": [asdict(c) for c in report.commands or DEFAULT_COMMANDS],
    }
    return template("report.html.j2").render(values)


def write_report(lake: Lake, name: str, html: str) -> PublishedFile:
    """Write the page to `reports/<name>.html` of the lake, in one step; an older page of that name is replaced.

    Raises:
        UsageError: `name` is not a slug.
    """
    if not is_slug(name):
        raise UsageError(f"{name!r} cannot name a report: use lower-case letters, digits, '.', '_' and '-'")
    return publish_bytes(lake, html.encode(), lake.report(f"{name}.html"))


@dataclass(frozen=True, slots=True)
class _Block:
    """One coloured block of a strip, in percent of the sheet's width."""

    left: float
    width: float
    colour: str
    text: str
    label: str


def _source(lake: Lake, catalog: Catalog, row: SourceRow, report: ReportInput) -> dict[str, Any]:
    episodes = catalog.latest("episodes").filter(pl.col("dataset") == row.dataset).collect()
    colours: dict[str, str] = {}
    shown = [_episode(lake, e, report, colours) for e in _spread(episodes, report.episodes_per_source)]
    return asdict(row) | {"shown": shown}


def _spread(episodes: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """Choose episodes whose tasks differ as far as possible, in the order of their keys; the same ones every time."""
    ordered = sorted(episodes.iter_rows(named=True), key=lambda row: natural_key(row["key"]))
    seen, turns = Counter[Any](), list[tuple[int, int]]()
    for place, row in enumerate(ordered):
        turns.append((seen[row["task"]], place))
        seen[row["task"]] += 1
    return [ordered[place] for place in sorted(place for _, place in sorted(turns)[:count])]


def _episode(lake: Lake, row: dict[str, Any], report: ReportInput, colours: dict[str, str]) -> dict[str, Any]:
    shard, name = open_shard(lake, row["dataset"], row["shard"]), row["episode_id"]
    times = shard.episode_steps(name).column("t_ns").to_numpy()
    duration = episode_duration_ns(times) / SECOND
    motions, spoken = report.motions.get(name, ()), _narrations(shard, name, int(times[0]) if len(times) else 0)
    spans, kind = (spoken, "narration") if spoken and not motions else (motions, "motion")
    sheets, trouble = _sheets(shard, name, report.frames)
    return {
        "id": name, "key": row["key"], "task": row["task"], "success": row["success"], "steps": row["steps"], "seconds": duration,
        "hz": row["control_hz"], "notes": list(row["notes"] or ()), "sheets": sheets, "trouble": trouble, "kind": kind,
        "blocks": [asdict(b) for b in _blocks(spans, duration, colours)], "spans": [asdict(s) for s in spans],
        "ticks": [duration * i / 4 for i in range(5)],
    }  # fmt: skip


def _sheets(shard: Shard, episode: str, frames: int) -> tuple[list[dict[str, Any]], list[str]]:
    held, sheets, trouble = set(shard.cameras(episode)), list[dict[str, Any]](), list[str]()
    wanted = [c for c in shard.contract.cameras if c.name in held and c.role != "depth"]
    for camera in sorted(wanted, key=lambda c: c.privileged)[:CAMERAS]:
        try:
            sheet = contact_sheet(shard, episode, camera, frames=frames)
        except CorruptMediaError as error:
            trouble.append(str(error))
            continue
        first, last = sheet.times_s[0], sheet.times_s[-1]
        sheets.append({
            "camera": camera.name, "frames": frames, "width": sheet.width, "height": sheet.height,
            "src": "data:image/jpeg;base64," + base64.b64encode(sheet.jpeg).decode(),
            "alt": f"{frames} pictures of camera {camera.name}, evenly spaced from {first:.1f} s to {last:.1f} s",
        })  # fmt: skip
    return sheets, trouble


def _narrations(shard: Shard, episode: str, zero: int) -> tuple[Segment, ...]:
    rows = shard.episode_streams(episode).to_pylist()
    return tuple(
        Segment((r["t_ns"] - zero) / SECOND, (r["end_ns"] - zero) / SECOND, r["text"])
        for r in rows
        if r["stream"] == "narration" and r["end_ns"] is not None and r["text"]
    )


def _blocks(spans: Sequence[Segment], duration: float, colours: dict[str, str]) -> list[_Block]:
    """Place segments on the sheet's axis; equal texts of a dataset share a colour."""
    blocks: list[_Block] = []
    for span in spans:
        start, end = np.clip([span.start_s, span.end_s], 0, duration).tolist()
        if end <= start:
            continue
        colour = colours.setdefault(span.text, _colour(span.text, len(colours)))
        label = f"{span.start_s:.2f} to {span.end_s:.2f} s: {span.text}"
        blocks.append(_Block(100 * start / duration, 100 * (end - start) / duration, colour, span.text, label))
    return blocks


def _colour(text: str, known: int) -> str:
    return "quiet" if text == STILL else f"c{known % COLOURS}"  # grey, so that motion stands out


@cache
def template(name: str) -> Any:
    """Return a template of `pipelines/report/templates`, with the filters they share."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Texts come from recordings: everything is escaped.
    environment = Environment(
        loader=PackageLoader("pipelines.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {"size": _size, "clock": _clock, "count": _count, "share": _share, "short": _short}
    environment.filters.update(filters)
    return environment.get_template(name)


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes / 60:.1f} h"


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _short(value: float) -> str:
    return f"{value:.3g}"
