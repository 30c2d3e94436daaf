"""Stages whose units wait for the test, so that a worker can be killed in the very middle of one."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.lake import Lake
from pipelines.unit import Output, Stage, Unit


@dataclass(frozen=True)
class Waiting:
    """`stage`, whose unit `at` first says which process works on it, then waits for its death; a second try goes through."""

    stage: Stage
    folder: Path
    at: int = 0

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def lake(self) -> Lake:
        return self.stage.lake

    def plan(self) -> Sequence[Unit]:
        return self.stage.plan()

    def work(self, unit: Unit) -> Output:
        output = self.stage.work(unit)
        mark = self.folder / "working"
        if unit.id == self.plan()[self.at].id and not mark.exists():
            draft = mark.with_suffix(".draft")
            draft.write_text(str(os.getpid()))
            draft.rename(mark)
            time.sleep(60)
        return output

    def victim(self) -> int:
        """Wait for the process that works on the unit."""
        mark = self.folder / "working"
        while not mark.exists():
            time.sleep(0.05)
        return int(mark.read_text())


@dataclass(frozen=True)
class Telling:
    """Units that say where they ran."""

    lake: Lake
    log: Path
    count: int = 6
    gpus: int = 0
    fatal: bool = False
    name: str = "telling"

    def plan(self) -> Sequence[Unit]:
        return [Unit(f"tell-{self.gpus}-{i}", self.name, "toy", f"unit {i}", i, 1, 1) for i in range(self.count)]

    def work(self, unit: Unit) -> Output:
        if self.fatal:
            os._exit(9)
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Output(rows=1)
