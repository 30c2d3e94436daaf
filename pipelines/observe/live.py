"""Runs that are going on: each says in a small file of the lake how far it is, and removes it when it ends.

The catalog shows a unit when it is committed; this shows a run before that. Nothing depends on these files: a store that refuses one
costs a warning in the log. A killed run leaves its file, which says when it was last heard of, until the sweep.
"""

import json
import logging
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from catalog.lake import Lake
from pipelines.observe.log import event

if TYPE_CHECKING:
    from pipelines.unit.model import UnitReport  # the loop imports this module

EVERY_S = 2.0
FOLDER = "live"


@dataclass(slots=True)
class LiveRun:
    """How far a run is. Times are seconds since the epoch."""

    run: str
    stage: str
    todo: int
    skipped: int = 0
    done: int = 0
    failed: int = 0
    rejects: int = 0
    frames: int = 0
    bytes: int = 0
    dataset: str = ""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    updated: float = 0.0

    @property
    def per_s(self) -> float:
        """Units per second since the start."""
        took = self.updated - self.started
        return (self.done + self.failed) / took if took > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last unit ends, at this rate; None before the first."""
        left = self.todo - self.done - self.failed
        return left / self.per_s if self.per_s else None


class Progress:
    """The writer's side."""

    def __init__(self, lake: Lake, run: str, stage: str, todo: int, skipped: int) -> None:
        now = time.time()
        self._lake, self._path, self._told, self._open = lake, lake.path(FOLDER, f"{run}.json"), 0.0, todo > 0
        self._live = LiveRun(run, stage, todo, skipped, host=socket.gethostname(), pid=os.getpid(), started=now, updated=now)
        self._write()

    def take(self, report: "UnitReport") -> None:
        """Count a unit; write the file if the last time is long enough ago."""
        live = self._live
        live.failed += report.status == "failed"
        live.done += report.status != "failed"
        live.rejects += sum(r.episodes for r in report.rejects)
        live.frames, live.bytes, live.dataset = live.frames + report.frames, live.bytes + report.bytes, report.dataset
        if time.monotonic() - self._told >= EVERY_S:
            self._write()

    def end(self) -> None:
        """Remove the file."""
        if self._open:
            self._open = False
            try:
                self._lake.fs.rm_file(self._path)
            except Exception as error:  # whatever the store raises: the run itself is fine
                event("live-progress-left", logging.WARNING, path=self._path, error=str(error))

    def _write(self) -> None:
        if not self._open:
            return
        self._told, self._live.updated = time.monotonic(), time.time()
        try:
            if self._lake.is_local:
                self._lake.fs.makedirs(self._lake.path(FOLDER), exist_ok=True)
            self._lake.fs.pipe_file(self._path, json.dumps(asdict(self._live)).encode())
        except Exception as error:  # whatever the store raises: the run itself is fine
            self._open = False
            event("live-progress-off", logging.WARNING, path=self._path, error=str(error))


def live_runs(lake: Lake) -> list[LiveRun]:
    """Return every run that has not said it ended, the newest first. A file that is being written is left out."""
    found = list[LiveRun]()
    for path in lake.files(FOLDER):
        try:
            body: dict[str, Any] = json.loads(lake.fs.cat_file(path))
            found.append(LiveRun(**body))
        except (FileNotFoundError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda live: -live.started)
