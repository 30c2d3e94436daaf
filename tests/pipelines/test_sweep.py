"""The sweep: leftovers go, everything a reader or a rerun needs stays."""

import os
import time
from pathlib import Path

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.publish import publish_bytes, temporary_for
from pipelines.sweep import SweepReport, sweep
from tests.support.toys import ToySource, ingest_toy


def _age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def test_only_leftovers_are_removed(lake: Lake) -> None:
    ingest_toy(lake, ToySource(per_group=4))
    shards = sorted(p for p in Path(lake.root).rglob("*.arrow"))
    (unit,) = Catalog(lake).committed_units("runs")
    publish_bytes(lake, b"{}", lake.receipt(unit))
    publish_bytes(lake, b"{}", lake.receipt("u-open"))
    with temporary_for(lake, lake.shard("toy", "u-killed", "packets")) as path:
        old, young = path, path.with_name(path.name + "x")
        old.write_bytes(b"half")
        young.write_bytes(b"being written")
        _age(old, 7200)
        assert sweep(lake, older_than_s=3600) == SweepReport(files=1, bytes=4, receipts=1)
        assert not old.exists()
        assert young.exists()
        young.unlink()
    assert Path(lake.receipt("u-open")).exists(), "a rerun still needs it"
    assert sorted(Path(lake.root).rglob("*.arrow")) == shards
    assert ingest_toy(lake, ToySource(per_group=4)).worked == 0


def test_leftovers_go_wherever_files_are_published(lake: Lake) -> None:
    targets = [
        lake.shard("toy", "u", "steps"), lake.annotation("a", "f", "u"), lake.residual("t", "k", "u"), lake.attempts("s", "u"),
        lake.memory("m", "u"), f"{lake.mixture('mix', 'h')}/index.arrow", lake.path("tokenizers", "t.json"),
        lake.path("weights/depth_codes", "w.safetensors"), lake.report("page.html"), lake.receipt("u"),
    ]  # fmt: skip
    left = [Path(f"{target}.tmp-1-0") for target in targets]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        _age(path, 7200)
    assert sweep(lake, older_than_s=3600).files == len(left)
    assert not [path for path in left if path.exists()]


def test_an_empty_lake_has_nothing_to_sweep(lake: Lake) -> None:
    assert sweep(lake) == SweepReport()
