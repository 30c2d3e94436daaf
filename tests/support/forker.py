"""A process that has imported everything and started nothing, and makes calls in forks of itself, several at once.

    python -m tests.support.forker          a line in: calls as JSON; a line out: how each fork ended

Forks cost milliseconds where a new interpreter costs seconds, and are safe here because nothing has started a thread yet.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class Forker:
    """The caller's side."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forker"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # no idle threads to fork beside
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, *calls: tuple[str, *tuple[Any, ...]], points: Sequence[str] = ()) -> list[int]:
        """Make calls, each in a fork, all at once.

        Args:
            calls: each `("module:function", *arguments)`.
            points: a failpoint per call; none by default.

        Returns:
            Per call 0, or minus the signal that ended it, or the exit code of an error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([(call, point) for call, point in zip_longest(calls, points, fillvalue="")]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _fork(call: Sequence[Any], point: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        (where, name), (at, _, times) = call[0].split(":"), point.partition(":")
        failpoints.arm(at, int(times or 1))
        getattr(import_module(where), name)(*call[1:])
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:  # a fork must never return into the loop
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    import numpy  # noqa: F401, ICN001 (pyarrow and fsspec import these late, and each fork would)
    import pandas  # noqa: F401, ICN001
    from fsspec.implementations import local  # noqa: F401

    import tests.support.crash_stage  # noqa: F401
    from pipelines.unit import failpoints

    for line in sys.stdin:
        children = [_fork(*call) for call in json.loads(line)]
        exits = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(exits) + "\n")
        sys.stdout.flush()
