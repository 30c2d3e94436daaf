"""A lake's figures for Prometheus: as a text file for the node exporter, or served. Everything comes from the catalog; nothing is kept."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.observe.live import live_runs
from schemas.errors import UsageError
from schemas.tables import TABLES


class LakeCollector:
    """Answers each scrape from the catalog as it is then."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def collect(self) -> Iterator[Any]:
        """Yield the metric families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        started, catalog = time.perf_counter(), Catalog(self._lake)
        for name, text, labels, rows in (*_work(catalog), *_rejects(catalog)):
            yield _family(CounterMetricFamily(name, text, labels=labels), rows)
        for name, text, labels, rows in (*_holdings(catalog), *_tables(catalog), *_going(self._lake)):
            yield _family(GaugeMetricFamily(name, text, labels=labels), rows)
        yield GaugeMetricFamily("cotrain_collect_seconds", "Time this answer took.", value=time.perf_counter() - started)


type Family = tuple[str, str, list[str], list[tuple[list[str], float]]]


def write_metrics(lake: Lake, path: Path) -> None:
    """Write the figures as a text file, replaced in one step.

    Raises:
        UsageError: the file cannot be written.
    """
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(str(path), _registry(lake))
    except OSError as error:
        raise UsageError(f"cannot write metrics to {path}: {error}") from error


def serve_metrics(lake: Lake, address: str) -> tuple[Any, Any]:
    """Answer scrapes at `host:port` or `:port` (all interfaces need naming: `0.0.0.0:9100`); return server and thread.

    Raises:
        UsageError: the address does not parse or is taken.
    """
    from prometheus_client import start_http_server

    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise UsageError(f"--serve {address!r} is not host:port or :port")
    try:
        return start_http_server(int(port), addr=host or "127.0.0.1", registry=_registry(lake))
    except (OSError, OverflowError) as error:
        raise UsageError(f"--serve {address}: {error}") from error


def _registry(lake: Lake) -> Any:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(LakeCollector(lake))
    return registry


def _family(family: Any, rows: list[tuple[list[str], float]]) -> Any:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _work(catalog: Catalog) -> Iterator[Family]:
    sums = {"seconds": "Time units took.", "cpu_seconds": "Processor time units took.", "rows": "Rows written.",
            "frames": "Pictures read or written.", "bytes": "Bytes written."}  # fmt: skip
    runs = (
        catalog.scan("runs")
        .group_by("stage")
        .agg(pl.len().alias("units"), *(pl.col(c).sum() for c in sums))
        .sort("stage")
        .collect()
    )
    for column, text in ({"units": "Units committed."} | sums).items():
        yield (
            f"cotrain_unit_{column}" if column != "units" else "cotrain_units",
            text,
            ["stage"],
            _labelled(runs, ["stage"], column),
        )


def _rejects(catalog: Catalog) -> Iterator[Family]:
    labels = ["stage", "error"]
    rows = catalog.scan("quarantine").group_by(labels).agg(pl.col("episodes").sum()).sort(labels).collect()
    yield "cotrain_rejected_episodes", "Episodes put into quarantine.", labels, _labelled(rows, labels, "episodes")


def _holdings(catalog: Catalog) -> Iterator[Family]:
    columns = {
        "episodes": "Episodes shown.",
        "steps": "Their control steps.",
        "duration_s": "Their duration.",
        "bytes": "Their bytes.",
    }
    rows = catalog.latest("episodes").group_by("dataset").agg(
        pl.len().alias("episodes"), *(pl.col(c).sum() for c in ("steps", "duration_s", "bytes"))
    ).sort("dataset").collect()  # fmt: skip
    for column, text in columns.items():
        name = {"episodes": "cotrain_episodes", "duration_s": "cotrain_episode_seconds"}.get(column, f"cotrain_episode_{column}")
        yield name, text, ["dataset"], _labelled(rows, ["dataset"], column)


def _tables(catalog: Catalog) -> Iterator[Family]:
    opened = {name: table for name in TABLES if (table := catalog.open(name)) is not None}
    files = [([name], float(len(table.file_uris()))) for name, table in opened.items()]
    versions = [([name], float(table.version())) for name, table in opened.items()]
    yield "cotrain_table_files", "Files of a catalog table; many want a compaction.", ["table"], files
    yield "cotrain_table_version", "Delta version of a catalog table.", ["table"], versions


def _going(lake: Lake) -> Iterator[Family]:
    labels, going = ["run", "stage", "host"], live_runs(lake)
    told = [([live.run, live.stage, live.host], live) for live in going]
    yield (
        "cotrain_run_open_units",
        "Units a run still has to do.",
        labels,
        [(n, float(r.todo - r.done - r.failed)) for n, r in told],
    )
    yield "cotrain_run_done_units", "Units a run has done.", labels, [(n, float(r.done)) for n, r in told]
    yield "cotrain_run_failed_units", "Units of a run that broke.", labels, [(n, float(r.failed)) for n, r in told]
    yield "cotrain_run_last_heard_seconds", "When a run last said how far it is.", labels, [(n, r.updated) for n, r in told]


def _labelled(rows: pl.DataFrame, labels: list[str], column: str) -> list[tuple[list[str], float]]:
    return [([str(v or "") for v in key], float(value or 0)) for *key, value in rows.select(*labels, column).iter_rows()]
