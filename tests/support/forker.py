"""A process that has imported everything and started nothing, and runs a stage in a fork of itself for every line it is told.

    python -m tests.support.forker          a line in: JSON [lake root, failpoint, units]; a line out: how the fork ended

Forks cost milliseconds where a new interpreter costs seconds, and are safe here because nothing has started a thread yet.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]


class Forker:
    """The caller's side."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forker"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, *lines: tuple[str, str, int]) -> list[int]:
        """Run a stage per line, all at once; return per line 0, or minus the signal that ended it, or the exit code of an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(lines) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _fork(root: str, point: str, count: int) -> int:
    child = os.fork()
    if child:
        return child
    from pipelines.unit import failpoints

    name, _, times = point.partition(":")
    failpoints.arm(name, int(times or 1))
    try:
        run_stage(CrashStage(Lake.at(root), count), execution=Execution(workers=0))
    except BaseException:  # a fork must never return into the loop
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    import numpy  # noqa: F401, ICN001 (pyarrow and fsspec import these late, and each fork would)
    import pandas  # noqa: F401, ICN001
    from fsspec.implementations import local  # noqa: F401

    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.unit import run_stage
    from tests.support.crash_stage import CrashStage

    for line in sys.stdin:
        children = [_fork(*call) for call in json.loads(line)]
        exits = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(exits) + "\n")
        sys.stdout.flush()
