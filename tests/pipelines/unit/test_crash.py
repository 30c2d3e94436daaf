"""The crash table: SIGKILL at every named point of the loop, each in a process of its own; then a rerun, and the lake is as if nothing was."""

import signal
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from pipelines.sweep import sweep
from pipelines.unit import pending
from pipelines.unit.failpoints import POINTS
from tests.support.crash_stage import CrashStage, contents
from tests.support.forker import Forker

UNITS, AT_ONCE = 2, 4
# Each point, then later units, and each table's append on its own: three tables come before the marker.
DEATHS = (*POINTS, "after-files:2", "after-receipt:2", "before-table:2", "after-table:2", "before-table:3", "after-table:3")


@dataclass(frozen=True)
class Death:
    """One lake whose run was killed once and repeated once."""

    exit: int
    left: dict[str, Any]
    rerun: int
    lake: Lake


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Death]:
    """Every death, and under the empty name a run that was left alone."""
    root, found = tmp_path_factory.mktemp("crash"), dict[str, Death]()
    with Forker() as forker:
        for points in batched(("", *DEATHS), AT_ONCE):
            lakes = [Lake.at(Path(root) / (point.replace(":", "-") or "alone")) for point in points]
            calls = [("tests.support.crash_stage:run_once", lake.root, UNITS) for lake in lakes]
            exits = forker.run(*calls, points=points)
            left = [contents(lake) for lake in lakes]
            reruns = forker.run(*calls)
            found |= {p: Death(*rest) for p, *rest in zip(points, exits, left, reruns, lakes, strict=True)}
    return found


@pytest.mark.parametrize("point", DEATHS)
def test_killed_there_and_run_again_the_lake_is_whole(deaths: dict[str, Death], point: str) -> None:
    death, whole = deaths[point], deaths[""].left
    assert (deaths[""].exit, death.exit, death.rerun) == (0, -signal.SIGKILL, 0)
    assert death.left != whole, "it died too late to prove anything"
    assert pending(CrashStage(death.lake, UNITS)) == []
    sweep(death.lake)
    assert contents(death.lake) == whole
