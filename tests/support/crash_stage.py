"""A stage whose units leave files, rows in several tables and rejects: everything that a crash could leave half done."""

import hashlib
import json
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.append import Part
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.publish import publish_bytes
from pipelines.unit import Output, Reject, Unit, run_stage
from schemas.errors import LakeError

TABLES = ("quarantine", "shards", "episodes", "runs")
VOLATILE = {
    "committed_ns",
    "run",
    "seconds",
    "cpu_seconds",
    "peak_rss_mb",
    "host",
    "status",
    "started_ns",
    "frames_per_s",
    "run_units",
}


@dataclass(frozen=True)
class CrashStage:
    """`count` units; each takes `busy_s`, publishes a file and has rows for four tables."""

    lake: Lake
    count: int = 3
    busy_s: float = 0.0
    name: str = "crash"

    def plan(self) -> list[Unit]:
        return [Unit(f"u-{i:04d}", self.name, "toy", f"unit {i}", i, 1, 1) for i in range(self.count)]

    def work(self, unit: Unit) -> Output:
        stop, data = time.perf_counter() + self.busy_s, f"content {unit.payload}".encode()
        while time.perf_counter() < stop:
            data = hashlib.sha256(data).digest()
        text = f"content {unit.payload}".encode() * 50
        file = publish_bytes(self.lake, text, self.lake.path("shards", "toy", f"{unit.id}.steps.arrow"))
        shard = {
            "uri": file.path,
            "shard": unit.id,
            "kind": "steps",
            "dataset": "toy",
            "blake3": file.blake3,
            "bytes": file.bytes,
        }
        episode = {"episode_id": f"ep-{unit.payload}", "dataset": "toy", "shard": unit.id, "steps": 3, "first_row": 0}
        tables = {name: pa.Table.from_pylist([row]) for name, row in (("shards", shard), ("episodes", episode))}
        rejects = (Reject(f"bad {unit.payload}", "x", "CorruptMediaError", "broken", 0),) if unit.payload % 2 else ()
        return Output((file,), tables, rejects, rows=3, bytes=file.bytes)


def run_once(root: str, count: int) -> None:
    """Run the stage to the end in this process."""
    run_stage(CrashStage(Lake.at(root), count), execution=Execution(workers=0))


def run_limited(root: str, count: int, most_bytes: int) -> None:
    """Run the stage where no file may grow beyond `most_bytes`; write down the error, which has to be one the house raises."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        run_once(root, count)
    except LakeError as error:
        (Path(root) / "told").write_text(str(error)[:most_bytes])
        raise SystemExit(7) from error


def append_many(root: str, worker: int, count: int) -> None:
    """Append `count` units of this worker's own and as many that every worker tries; write down what was won and how often retried."""
    catalog, won, retries = Catalog(Lake.at(root)), 0, 0
    for number in range(count):
        for unit in (f"own-{worker}-{number}", f"shared-{number}"):
            done = catalog.append_all("shards", [Part(unit, pa.table({"uri": [unit]}))])
            won, retries = won + len(done.marks), retries + done.retries
    (Path(root) / f"worker-{worker}.json").write_text(json.dumps({"won": won, "retries": retries}))


def contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row ever committed, without what differs between two runs, and every file with its hash."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table in TABLES:
        rows = Catalog(lake).scan(table).collect()
        found[table] = sorted(map(repr, rows.drop([c for c in rows.columns if c in VOLATILE]).iter_rows()))
    files = [f for f in lake.fs.find(lake.root) if "/catalog/" not in f and "/live/" not in f and ".tmp-" not in f]
    found["files"] = sorted((f.removeprefix(lake.root), hashlib.sha256(lake.fs.cat_file(f)).hexdigest()) for f in files)
    return found
