"""What a Prefect server needs before flows are deployed: the pool, its queues, the GPU limit, the automation for crashed runs.

Doing it again changes nothing but what differs.
"""

import os
from contextlib import suppress
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists

from flows.tasks import GPU_LIMIT

POOL = "local"
AUTOMATIONS = Path(__file__).resolve().parents[1] / "deploy" / "crashed-runs.yaml"


def provision(gpus: int | None = None) -> None:
    """Set up the server that `PREFECT_API_URL` names.

    Args:
        gpus: GPUs of the machines behind the queue `gpu`; `$COTRAIN_GPUS`, else what torch sees, if None. Without any, GPU work
            runs on the CPU one at a time.
    """
    count = max(gpus if gpus is not None else _gpus(), 1)
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        for queue, limit in {"cpu": None, "gpu": count, "maintain": 1}.items():
            _queue(client, queue, limit)
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, count)
        for automation in yaml.safe_load(AUTOMATIONS.read_text())["automations"]:
            _automation(client, AutomationCore.model_validate(automation))


def _queue(client: SyncPrefectClient, name: str, limit: int | None) -> None:
    try:
        client.create_work_queue(name, concurrency_limit=limit, work_pool_name=POOL)
    except ObjectAlreadyExists:
        client.update_work_queue(client.read_work_queue_by_name(name, POOL).id, concurrency_limit=limit)


def _automation(client: SyncPrefectClient, wanted: AutomationCore) -> None:
    found = client.read_automations_by_name(wanted.name)
    if found:
        client.update_automation(found[0].id, wanted)
    else:
        client.create_automation(wanted)


def _gpus() -> int:
    if named := os.environ.get("COTRAIN_GPUS"):
        return int(named)
    import torch

    return torch.cuda.device_count()
