"""Vacuum and garbage collection: what is pinned stays and reads as before, what nothing needs goes, what is not understood is left alone."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from catalog.append import KEEP_LOG
from catalog.lake import Lake
from catalog.maintain import compact, vacuum
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.integrity import verify_lake
from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from pipelines.unit import run_stage
from pipelines.upkeep.gc import collect_garbage
from pipelines.upkeep.pins import live_mixtures, pinned_versions
from schemas.errors import LakeError, UsageError
from schemas.mixture import MixtureSpec
from tests.support.toys import ToySource, ingest_toy

OLD, NEW = ToySource(lengths=(6, 5)), ToySource(lengths=(7, 5))


def mixed(lake: Lake) -> str:
    spec = MixtureSpec.from_dict(
        {"name": "m", "samples": 20, "sources": [{"name": "toy", "where": "toy"}], "split": {"val": 0.0}}
    )
    return mix(lake, spec).hash


def files(lake: Lake) -> set[str]:
    return {str(p.relative_to(lake.root)) for p in Path(lake.root).rglob("*") if p.is_file() and "catalog" not in p.parts}


@pytest.fixture
def twice(lake: Lake) -> tuple[Lake, str, str]:
    """A lake whose recording was replaced after a mixture of it was pinned, and mixed again."""
    ingest_toy(lake, OLD)
    first = mixed(lake)
    ingest_toy(lake, NEW)
    return lake, first, mixed(lake)


def test_pinned_shards_are_never_garbage(twice: tuple[Lake, str, str]) -> None:
    lake, first, second = twice
    assert [m.hash for m in live_mixtures(lake)] == [first, second]
    before, samples = files(lake), load(f"mixture:m@{first}", lake)[3]
    assert collect_garbage(lake, dry_run=False, older_than_s=-60).garbage == ()
    assert files(lake) == before
    assert collect_garbage(lake, older_than_s=-60, keep_mixtures=2).garbage == ()
    assert load(f"mixture:m@{first}", lake)[3].keys() == samples.keys()


def test_what_only_a_dropped_mixture_pinned_goes_and_the_rest_stays_whole(twice: tuple[Lake, str, str]) -> None:
    lake, first, second = twice
    planned = collect_garbage(lake, keep_mixtures=1, older_than_s=-60)
    assert {g.kind for g in planned.garbage} == {"replaced", "mixture"}
    assert len([g for g in planned.garbage if g.kind == "replaced"]) == 3, "the old recording's one shard, and only that"
    assert collect_garbage(lake, keep_mixtures=1).garbage == (), "all of it is young"
    before = files(lake)
    done = collect_garbage(lake, dry_run=False, keep_mixtures=1, older_than_s=-60)
    assert files(lake) == before - {g.path for g in done.garbage}
    assert done.garbage == planned.garbage
    assert [m.hash for m in live_mixtures(lake)] == [second]
    assert verify_lake(lake).ok
    assert len(load("m", lake)) == 20
    with pytest.raises(LakeError, match="Mix again"):
        load(f"mixture:m@{first}", lake)
    assert ingest_toy(lake, OLD).worked == 1, "its content is back, so its shard is made again"
    assert verify_lake(lake).ok


def test_an_exported_mixture_counts_as_needed(twice: tuple[Lake, str, str]) -> None:
    lake, first, _ = twice
    row = {"uri": "/out", "format": "lerobot", "mixture": "m", "mixture_hash": first, "report": "{}"}
    Catalog(lake).append("publications", pa.Table.from_pylist([row]), "u-export")
    assert collect_garbage(lake, keep_mixtures=1, older_than_s=-60).garbage == ()


def test_only_shards_and_registered_files_are_orphans(lake: Lake) -> None:
    ingest_toy(lake, OLD)
    folder = Path(lake.root, "shards", "toy")
    orphan, stranger = folder / f"u-{'0' * 20}.steps.arrow", folder / "notes.txt"
    orphan.write_bytes(b"never committed")
    stranger.write_bytes(b"somebody's")
    (Path(lake.root) / "annotations" / "x").mkdir(parents=True)
    (Path(lake.root) / "annotations" / "x" / "weights.safetensors").write_bytes(b"kept")
    done = collect_garbage(lake, dry_run=False, older_than_s=-60)
    assert [(g.path, g.kind) for g in done.garbage] == [(f"shards/toy/{orphan.name}", "orphan")]
    assert stranger.exists()
    assert verify_lake(lake).ok


def test_a_side_table_of_another_configuration_goes_unless_a_mixture_pinned_it(lake: Lake) -> None:
    ingest_toy(lake, OLD)
    stages = [AnnotateStage.named(lake, "language_motion", settings={"max_parts": n}) for n in ("2", "3")]
    run_stage(stages[0], execution=Execution(workers=0))
    mixed(lake)
    run_stage(stages[1], execution=Execution(workers=0))
    assert collect_garbage(lake, older_than_s=-60).garbage == ()
    ingest_toy(lake, NEW)
    for stage in stages:
        run_stage(stage, execution=Execution(workers=0))
    mixed(lake)
    found = collect_garbage(lake, dry_run=False, keep_mixtures=1, older_than_s=-60).garbage
    assert sum(g.path.startswith("annotations/") for g in found) == 3
    assert verify_lake(lake).ok
    assert collect_garbage(lake, keep_mixtures=1, older_than_s=-60).garbage == ()


def test_at_least_one_version_stays(lake: Lake) -> None:
    with pytest.raises(UsageError, match="keep at least 1"):
        collect_garbage(lake, keep_mixtures=0)


def test_vacuum_keeps_every_pinned_version_and_nothing_else(lake: Lake) -> None:
    catalog = Catalog(lake)
    ingest_toy(lake, OLD)
    mixed(lake)
    (pin,) = pinned_versions(lake)["episodes"]
    before = catalog.scan("episodes", pin).collect()
    for number in range(3):
        catalog.append("episodes", pa.Table.from_pylist([{"episode_id": f"later-{number}", "dataset": "toy"}]), f"u-{number}")
    unpinned = catalog.version("episodes")
    assert compact(lake, above=1)["episodes"][1] == 1
    planned = vacuum(lake, pinned_versions(lake), older_than_h=0, dry_run=True)
    assert planned["episodes"] == 3
    assert vacuum(lake, pinned_versions(lake), older_than_h=24) == {}, "everything is young"
    assert vacuum(lake, pinned_versions(lake), older_than_h=0) == planned
    assert catalog.scan("episodes", pin).collect().equals(before)
    with pytest.raises((FileNotFoundError, pl.exceptions.PolarsError)):
        catalog.scan("episodes", unpinned).collect()
    assert catalog.latest("episodes").collect().height == 5
    assert len(load("m", lake)) == 20


def test_delta_may_not_forget_old_log_entries(lake: Lake) -> None:
    """By default it would after 30 days, and pinned versions with them."""
    Catalog(lake).append("runs", pa.table({"run": ["r"]}), "u")
    assert KEEP_LOG.items() <= DeltaTable(lake.table("runs")).metadata().configuration.items()
    DeltaTable(lake.table("runs")).alter.set_table_properties({"delta.enableExpiredLogCleanup": "true"})
    compact(lake)
    assert KEEP_LOG.items() <= DeltaTable(lake.table("runs")).metadata().configuration.items()


def test_the_command(twice: tuple[Lake, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    lake, _, _ = twice
    assert run(["gc", "--lake", lake.root, "--keep-mixtures", "1", "--older-than-h", "0", "--dry-run"]) == 0
    assert "would be removed" in capsys.readouterr().out
    assert len(live_mixtures(lake)) == 2
    assert run(["maintain", "--lake", lake.root, "--older-than-h", "0", "--keep-versions-h", "0"]) == 0
    assert "compacted" in capsys.readouterr().out
