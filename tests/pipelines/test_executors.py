"""Executors: what a worker cannot load, what Execution refuses, deadlines. Dask has a module of its own."""

import itertools
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage, EvaluateStage
from pipelines.executors import Execution, run_all
from pipelines.executors.execution import deadline
from pipelines.executors.versions import check_same, versions
from pipelines.residuals.assign import Named
from pipelines.residuals.stage import CacheStage
from pipelines.terminal.stages import sentence
from pipelines.unit import Output, Unit, gpus_of, run_stage
from schemas.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plain:
    """Units that do nothing."""

    lake: Lake
    count: int = 3
    name: str = "plain"

    def plan(self) -> list[Unit]:
        return [Unit(f"plain-{i}", self.name, "toy", f"unit {i}", i, 1, 1) for i in range(self.count)]

    def work(self, unit: Unit) -> Output:
        return Output(rows=1)


@dataclass(frozen=True)
class Unloadable(Plain):
    """Travels well and cannot be built anywhere but here."""

    name: str = "unloadable"

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ModuleNotFoundError("No module named 'elsewhere'")


@dataclass(frozen=True)
class Unsendable(Plain):
    name: str = "unsendable"
    what: Any = field(default_factory=lambda: lambda: None)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Unloadable,
            r"a worker process cannot load stage 'unloadable' \(.*Unloadable\): ModuleNotFoundError: No module named 'elsewhere'",
        ),
        (Unsendable, "stage 'unsendable' .* cannot be sent to a worker process"),
    ],
)
def test_a_stage_a_worker_cannot_load_is_an_error_that_names_it(lake: Lake, kind: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_stage(kind(lake), execution=Execution(workers=1))
    assert Catalog(lake).scan("quarantine").collect().is_empty()


def test_a_main_module_that_workers_cannot_import_is_an_error() -> None:
    code = "from pipelines.executors import Execution, run_all\nlist(run_all(abs, [(-1,), (-2,)], Execution(workers=1)))\n"
    ran = subprocess.run([sys.executable, "-"], input=code, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "UsageError: the worker processes die before they take any work" in ran.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ray"}, "'ray' is unknown"),
        ({"workers": -1}, "makes no sense"),
        ({"scheduler": "tcp://host:1"}, "only used by --executor dask"),
        ({"kind": "dask", "timeout_s": 3.0}, "needs local worker processes"),
        ({"workers": 0, "timeout_s": 3.0}, "needs local worker processes"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Execution(**options)


def test_a_single_unit_with_a_time_limit_runs_where_it_can_be_killed() -> None:
    [(_, result)] = run_all(time.sleep, [(30,)], Execution(timeout_s=0.5))
    assert "longer than 0.5 s" in str(result)


def test_no_unit_starts_after_the_deadline_and_the_next_run_goes_on(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, seconds = Plain(lake, count=4), itertools.count(1)
    with monkeypatch.context() as patch:  # a clock that moves on by a second whenever it is read
        patch.setattr("pipelines.executors.execution.time", SimpleNamespace(monotonic=lambda: next(seconds)))
        cut = run_stage(stage, execution=Execution(workers=0, until=3))
    assert (cut.count("done"), cut.count("left")) == (2, 2)
    assert sentence(cut).endswith("the time was up with 2 units left for the next run")
    rest = run_stage(stage, execution=Execution(workers=0, until=deadline(60)))
    assert (rest.count("skipped"), rest.count("done"), rest.count("left")) == (2, 2, 0)


def test_a_budget_of_nothing_does_nothing_and_a_negative_one_is_refused(lake: Lake) -> None:
    assert run_stage(Plain(lake), execution=Execution(workers=0, until=deadline(0))).count("left") == 3
    assert deadline(None) is None
    with pytest.raises(UsageError, match="--budget-s -1 makes no sense"):
        deadline(-1)


def test_versions_are_compared_by_name() -> None:
    check_same({"tcp://a": versions()}, "tcp://head:8786")
    other = versions() | {"pyarrow": "1.0"}
    with pytest.raises(UsageError, match=r"tcp://b of tcp://head:8786 has pyarrow 1\.0 instead of "):
        check_same({"tcp://a": versions(), "tcp://b": other}, "tcp://head:8786")
    with pytest.raises(UsageError, match="code absent instead of"):
        check_same({"tcp://b": {k: v for k, v in versions().items() if k != "code"}}, "here")


@pytest.mark.parametrize(
    ("on_gpu", "device", "gpus"), [(True, "cuda", 1), (True, "cuda:1", 1), (True, "cpu", 0), (False, "cuda", 0)]
)
def test_a_gpu_asked_for_by_name_may_be_a_workers(lake: Lake, on_gpu: bool, device: str, gpus: int) -> None:
    annotator: Any = SimpleNamespace(on_gpu=on_gpu)
    for kind in (AnnotateStage, EvaluateStage):
        assert gpus_of(kind(lake, annotator, device=device)) == gpus
    if on_gpu:
        assert gpus_of(CacheStage(lake, "mix", Named("act:x", device=device))) == gpus
