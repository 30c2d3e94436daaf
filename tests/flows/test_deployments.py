"""`prefect.yaml`: it parses, its entry points import and accept their parameters, and the working directory comes from $COTRAIN_HOME."""

import asyncio
import inspect
import os
import re
import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.settings import get_current_settings

from catalog.lake import Lake
from flows import events
from flows.local import Local
from flows.provision import provision
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


def test_every_flow_is_deployed() -> None:
    flows = {path.stem for path in (ROOT / "flows").glob("*.py") if "@flow(" in path.read_text()}
    assert flows == set(DEPLOYMENTS) == {d["entrypoint"].split(":")[1] for d in DEPLOYMENTS.values()}
    assert len(flows) == 9


def test_queues_schedules_and_limits() -> None:
    queues = {n: d["work_pool"]["work_queue_name"] for n, d in DEPLOYMENTS.items()}
    assert {n: q for n, q in queues.items() if q != "cpu"} == {"annotate": "gpu", "residuals": "gpu", "maintain": "maintain"}
    for deployment in DEPLOYMENTS.values():
        assert deployment["work_pool"]["name"] == "local"
        limit = deployment["concurrency_limit"]
        # A timed run must not stack on the one before; one that an event asks for must not be dropped.
        strategy = ConcurrencyLimitStrategy.ENQUEUE if "triggers" in deployment else ConcurrencyLimitStrategy.CANCEL_NEW
        assert (limit["limit"], ConcurrencyLimitStrategy(limit["collision_strategy"])) == (1, strategy)
        assert deployment["schedules"]
        for schedule in deployment["schedules"]:
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


def test_ingested_datasets_with_actions_are_annotated() -> None:
    """The trigger's event, labels and parameters are the ones that `flows.events` sends."""
    (trigger,) = DEPLOYMENTS["annotate"]["triggers"]
    parsed = DeploymentEventTrigger.model_validate(trigger | {"name": "test"})
    sent: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "emit_event", lambda name, resource, payload: sent.append((name, resource, payload)))
        events.ingested(Holding(), "toy")  # pyright: ignore[reportArgumentType]
    ((name, resource, payload),) = sent
    assert parsed.expect == {name}
    assert all(label in resource for label in parsed.match.root)
    assert resource["cotrain.actions"] == parsed.match.root["cotrain.actions"] == "true"
    assert trigger["parameters"] == {"what": "{{ event.resource.name }}", "lake": "{{ event.payload.lake }}"}
    assert (resource["prefect.resource.name"], "lake" in payload) == ("toy", True)


class Holding:
    """A catalog with one episode of `toy`."""

    lake = Lake("/somewhere")

    def latest(self, _: str) -> pl.LazyFrame:
        return pl.LazyFrame({"dataset": ["toy"], "steps": [3], "has_action": [True]})


@pytest.mark.usefixtures("prefect_server")
def test_a_server_is_provisioned_once_and_again_without_change() -> None:
    for gpus in (2, 3):
        provision(gpus)
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("local").type == "process"
        limits = {name: client.read_work_queue_by_name(name, "local").concurrency_limit for name in ("cpu", "gpu", "maintain")}
        assert limits == {"cpu": None, "gpu": 3, "maintain": 1}
        assert client.read_global_concurrency_limit_by_name("gpu").limit == 3
        (automation,) = client.read_automations_by_name("cotrain crashed runs")
        assert automation.trigger.posture is Posture.Proactive
        assert automation.trigger.within >= timedelta(seconds=3 * get_current_settings().flows.heartbeat_frequency)


def test_a_process_id_that_another_program_took_over_is_not_ours(tmp_path: Path) -> None:
    local = Local(tmp_path)
    assert local.pid("server") is None
    (tmp_path / "server.pid").write_text(str(os.getpid()))
    assert local.pid("server") is None or "prefect" in Path("/proc/self/cmdline").read_text()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        (tmp_path / "worker.pid").write_text(str(other.pid))
        local.down()
        assert other.poll() is None
        assert not (tmp_path / "worker.pid").exists()
    finally:
        other.kill()
        other.wait()


def test_the_systemd_units_start_what_make_up_starts() -> None:
    units = {p.stem: p.read_text() for p in (ROOT / "deploy" / "systemd").glob("*.service")}
    assert "prefect server start --host 127.0.0.1 --port 4200" in units["cotrain-server"]
    assert "prefect worker start --pool local --limit 2" in units["cotrain-worker"]
    assert all("Restart=always" in text and "EnvironmentFile=/etc/cotrain.env" in text for text in units.values())
    named = set(re.findall(r"^(\w+)=", (ROOT / "deploy" / "systemd" / "cotrain.env").read_text(), re.MULTILINE))
    assert {"COTRAIN_HOME", "COTRAIN_LAKE", "PREFECT_API_URL", "PREFECT_SERVER_DATABASE_TIMEOUT"} <= named


def test_the_file_names_no_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert not re.search(r"(?<![\w.$])/(home|work|root|tmp|mnt)/", text)
