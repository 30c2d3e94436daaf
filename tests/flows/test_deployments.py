"""`prefect.yaml`: it parses, its entry points import and accept their parameters, and the working directory comes from $COTRAIN_HOME."""

import asyncio
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule

from tests.conftest import ROOT

FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {d["name"]: d for d in FILE["deployments"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_entry_points_exist_and_take_their_parameters(name: str) -> None:
    path, _, attribute = DEPLOYMENTS[name]["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    deployed = getattr(import_module(path.removesuffix(".py").replace("/", ".")), attribute)
    assert isinstance(deployed, Flow)
    known = inspect.signature(deployed.fn).parameters
    assert set(DEPLOYMENTS[name]["parameters"]) <= set(known)
    assert deployed.validate_parameters(DEPLOYMENTS[name]["parameters"]) is not None


def test_queues_schedules_and_limits() -> None:
    assert {n: d["work_pool"]["work_queue_name"] for n, d in DEPLOYMENTS.items()} == {
        "nightly": "cpu", "annotate": "gpu", "maintain": "maintain",
    }  # fmt: skip
    for deployment in DEPLOYMENTS.values():
        assert deployment["work_pool"]["name"] == "local"
        limit = deployment["concurrency_limit"]
        assert (limit["limit"], ConcurrencyLimitStrategy(limit["collision_strategy"])) == (1, ConcurrencyLimitStrategy.CANCEL_NEW)
        for schedule in deployment.get("schedules", []):
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert DEPLOYMENTS["nightly"]["schedules"][0]["active"]


@pytest.mark.usefixtures("prefect_server")
def test_the_working_directory_comes_from_the_workers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's own step runner, as a worker calls it."""
    from prefect.deployments.steps.core import run_steps

    monkeypatch.chdir(Path.cwd())  # so that the step's change is undone
    monkeypatch.setenv("COTRAIN_HOME", str(tmp_path))
    result: dict[str, Any] = asyncio.run(run_steps(FILE["pull"], {}))
    assert result["directory"] == str(tmp_path)
    assert Path.cwd() == tmp_path


def test_the_file_names_no_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert not re.search(r"(?<![\w.$])/(home|work|root|tmp|mnt)/", text)
