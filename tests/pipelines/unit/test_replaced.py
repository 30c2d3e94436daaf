"""There and back: a unit whose rows another plan has replaced is committed again when its content comes back, and only then."""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.lint.evidence import LintSettings
from pipelines.lint.stage import LintStage
from pipelines.publish import publish_bytes
from pipelines.standardise.stage import StandardiseStage
from pipelines.sweep import sweep
from pipelines.unit import Output, StageReport, Unit, pending, run_stage
from schemas.ids import unit_id
from tests.support.toys import ToySource, ingest_toy
from transforms.standardise.ops import parse_ops


@dataclass(frozen=True)
class Edited:
    """A source of episodes whose content is a number each; editing one makes another unit of the same episode."""

    lake: Lake
    contents: tuple[int, ...]
    name: str = "edited"

    def plan(self) -> list[Unit]:
        return [
            Unit(unit_id(self.name, [i, c], None, "1"), self.name, "toy", f"{i}", (i, c), 1, 1)
            for i, c in enumerate(self.contents)
        ]

    def work(self, unit: Unit) -> Output:
        number, content = unit.payload
        file = publish_bytes(self.lake, f"{content}".encode(), self.lake.path("shards", f"{unit.id}.bin"))
        row = {"episode_id": f"ep-{number}", "dataset": "toy", "steps": content, "shard": unit.id}
        return Output((file,), {"episodes": pa.Table.from_pylist([row])}, rows=1)


def run(stage: Edited) -> StageReport:
    return run_stage(stage, execution=Execution(workers=0))


def shown(lake: Lake) -> list[int]:
    return Catalog(lake).latest("episodes").sort("episode_id").collect()["steps"].to_list()


def test_an_undone_edit_shows_again(lake: Lake) -> None:
    for contents, worked in (((1, 2), 2), ((1, 5), 1), ((1, 2), 1), ((1, 2), 0), ((1, 5), 1), ((1, 5), 0), ((1, 2), 1)):
        assert run(Edited(lake, contents)).worked == worked
        assert shown(lake) == list(contents)
    assert Catalog(lake).scan("runs").collect().height == 2 + 1 + 1 + 1 + 1


def test_rows_another_stage_put_over_them_stay(lake: Lake) -> None:
    run(Edited(lake, (1, 2)))
    run(replace(Edited(lake, (7, 8)), name="view"))
    assert pending(Edited(lake, (1, 2))) == []
    assert shown(lake) == [7, 8]


def test_equal_rows_of_another_plan_are_no_reason_to_do_it_again(lake: Lake) -> None:
    first = Edited(lake, (1,))
    run(first)
    (unit,) = first.plan()
    Catalog(lake).append("episodes", first.work(unit).tables["episodes"], "u-other")
    Catalog(lake).append("runs", pa.table({"run": ["r"], "stage": ["edited"]}), "u-other")
    assert pending(first) == []


@pytest.mark.parametrize("point", ["receipt", "episodes"])
def test_killed_while_it_comes_back(lake: Lake, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    for contents in ((1,), (5,)):
        run(Edited(lake, contents))
    real = Catalog.append_all

    def dying(self: Catalog, table: str, *args: object) -> object:
        if table == ("runs" if point == "episodes" else "episodes"):
            raise KeyboardInterrupt
        return real(self, table, *args)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "append_all", dying)
        with pytest.raises(KeyboardInterrupt):
            run(Edited(lake, (1,)))
    assert [u.again for u in pending(Edited(lake, (1,)))] == [1]
    (receipt,) = Path(lake.root).glob("receipts/*")
    (half := receipt.with_name(f"{receipt.name}.tmp-1-0")).write_bytes(b"killed while it was written")
    assert [u.again for u in pending(Edited(lake, (1,)))] == [1]
    half.unlink()
    assert run(Edited(lake, (1,))).count("recovered") == 1
    assert shown(lake) == [1]
    assert Catalog(lake).scan("episodes").collect().height == 3
    assert not list(Path(lake.root).glob("receipts/*"))
    assert pending(Edited(lake, (1,))) == []


def test_two_workers_bring_it_back_once(lake: Lake) -> None:
    for contents in ((1,), (5,)):
        run(Edited(lake, contents))
    stage = Edited(lake, (1,))
    (unit,) = pending(stage)
    from pipelines.unit import execute, execute_batch

    assert execute(stage, unit, "run-a").status == "done"
    assert execute(stage, unit, "run-b").status == "skipped"
    assert [r.status for r in execute_batch(stage, [unit], "run-c")] == ["skipped"]
    assert Catalog(lake).scan("episodes").collect().height == 3
    sweep(lake)


def test_a_recording_that_was_replaced_and_restored(lake: Lake) -> None:
    """The real ingest stage: other lengths are other groups of the same episodes."""
    before = ToySource(lengths=(6, 5), per_group=2)
    for source in (before, ToySource(lengths=(4, 7), per_group=2), before):
        ingest_toy(lake, source)
    rows = Catalog(lake).latest("episodes").sort("key").collect()
    assert rows["steps"].to_list() == [6, 5]
    assert ingest_toy(lake, before).worked == 0
    assert Catalog(lake).scan("shards").filter(pl.col("kind") == "steps").collect()["uri"].n_unique() == 2


def test_scores_follow_an_op_list_there_and_back(lake: Lake) -> None:
    """Lists A, B, A: the lints' newest rows are those of A's data again, although A's units ran long ago."""
    ingest_toy(lake, ToySource(lengths=(8,)))
    scored, lint = list[list[tuple]](), LintStage(lake, "toy", LintSettings(pictures=False))
    for count in (1, 3, 1):
        ops = parse_ops([{"op": "drop_first", "count": count}])
        run_stage(StandardiseStage(lake, "toy", ops), execution=Execution(workers=0))
        run_stage(lint, execution=Execution(workers=0))
        rows = Catalog(lake).latest("scores").sort("method").collect()
        scored.append(rows.select("method", "episode_id", "value", "detail").rows())
    assert scored[0] != scored[1], "the two lists must differ in what lints see"
    assert scored[2] == scored[0]
    assert pending(lint) == []
