"""The task over the unit loop: what is tried again and what is not, batches, the reject limit."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from prefect import flow

from catalog.lake import Lake
from catalog.tables import Catalog
from flows import run as runs
from flows import tasks
from flows.run import Run
from flows.summary import Summary
from flows.transport import is_transport
from pipelines.unit import Output, Unit
from schemas.errors import ConflictError, CorruptMediaError, RejectLimitError, TransportError, UsageError
from schemas.ids import unit_id

pytestmark = [pytest.mark.usefixtures("prefect_server")]


@dataclass
class Scripted:
    """A stage of `count` units; `errors` are raised one per try of a unit, then it succeeds. Counts its tries."""

    lake: Lake
    count: int = 1
    errors: list[Exception] = field(default_factory=list)
    name: str = "scripted"
    tries: list[str] = field(default_factory=list)

    def plan(self) -> Sequence[Unit]:
        return [Unit(unit_id("scripted", i, None, "1"), self.name, "toy", f"unit {i}", i, episodes=5) for i in range(self.count)]

    def work(self, unit: Unit) -> Output:
        self.tries.append(unit.id)
        if self.errors:
            raise self.errors.pop(0)
        return Output(rows=10)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "run_batch", tasks.run_batch.with_options(retry_delay_seconds=0))


def run(stage: Any) -> Summary:
    @flow(name="scripted", validate_parameters=False)
    def scripted() -> Summary:
        return Run("scripted", stage.lake).do(stage)

    return scripted()


def test_a_hiccup_is_tried_again_and_leaves_no_trace(lake: Lake, hasty: None) -> None:
    stage = Scripted(lake, errors=[ConnectionResetError("reset"), TimeoutError("slow"), OSError(errno.ESTALE, "stale handle")])
    summary = run(stage)
    assert (summary.done, summary.failed, len(stage.tries)) == (1, 0, 4)
    assert Catalog(lake).scan("quarantine").collect().is_empty()


def test_a_hiccup_that_does_not_pass_fails_the_run_and_the_next_run_goes_on(lake: Lake, hasty: None) -> None:
    stage = Scripted(lake, errors=[ConnectionResetError("reset")] * 4)
    with pytest.raises(TransportError, match="unit 0: ConnectionResetError: reset"):
        run(stage)
    assert len(stage.tries) == 4
    assert Catalog(lake).committed_units("runs") == set()
    assert run(stage).done == 1


@pytest.mark.parametrize(("error", "failed"), [(CorruptMediaError("frame 3 is broken"), 0), (ZeroDivisionError("a bug"), 1)])
def test_bad_data_and_bugs_are_not_tried_again(lake: Lake, hasty: None, error: Exception, failed: int) -> None:
    stage = Scripted(lake, errors=[error])
    summary = run(stage)
    assert (summary.failed, len(stage.tries)) == (failed, 1)
    assert [r.error for r in summary.rejects] == [type(error).__name__]
    assert Catalog(lake).scan("quarantine").collect()["message"].to_list() == [str(error)]


def test_a_second_run_does_nothing(lake: Lake) -> None:
    stage = Scripted(lake, count=3)
    assert run(stage).done == 3
    again = run(stage)
    assert (again.worked, again.skipped, len(stage.tries)) == (0, 3, 3)
    assert again.sentence == "scripted toy: nothing to do, all 3 units are already there"


def test_many_units_share_few_tasks(lake: Lake) -> None:
    units = [Unit(str(i), "s", "d", "", None) for i in range(1000)]
    batches = list(tasks.batches(units))
    assert len(batches) <= tasks.TASKS_PER_STAGE
    assert [u for b in batches for u in b] == units
    assert list(tasks.batches([])) == []
    assert [len(b) for b in tasks.batches(units[:3])] == [1, 1, 1]


def test_too_many_rejects_stop_the_flow_and_keep_what_was_done(lake: Lake) -> None:
    stage = Scripted(lake, count=8, errors=[CorruptMediaError("unreadable")] * 3)
    with pytest.raises(RejectLimitError, match="more than 20%; last reason: unreadable"):
        run(stage)
    assert len(Catalog(lake).committed_units("runs")) >= 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (OSError(errno.EIO, "disk"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError("gone"), False),
        (ConflictError("lost 20 commits"), True),
        (CorruptMediaError("bad"), False),
        (UsageError("wrong"), False),
        (ValueError("bug"), False),
    ],
)
def test_what_counts_as_transport(error: Exception, expected: bool) -> None:
    assert is_transport(error) is expected


def test_errors_of_network_clients_and_wrapped_ones_count_too() -> None:
    import httpx

    assert is_transport(httpx.ConnectError("no route"))
    wrapped = RuntimeError("reading failed")
    wrapped.__cause__ = ConnectionResetError()
    assert is_transport(wrapped)
    told = CorruptMediaError("the file says so")
    told.__cause__ = ConnectionResetError()
    assert not is_transport(told)


def test_prefect_reports_the_failure(lake: Lake) -> None:
    @flow(name="failing", validate_parameters=False)
    def failing() -> Summary:
        return Run("failing", lake).do(Scripted(lake, errors=[UsageError("no such thing")]))

    state = failing(return_state=True)
    assert state.is_failed()
    with pytest.raises(UsageError, match="no such thing"):
        state.result()
