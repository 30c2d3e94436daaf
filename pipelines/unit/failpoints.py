"""Named places where a process kills itself with SIGKILL, so that the crash table can be tested by dying at each of its rows.

`COTRAIN_FAILPOINT=before-marker` dies there at once, `before-marker:3` the third time. Read once per process; without it a call
costs one comparison.
"""

import os
import signal

VARIABLE = "COTRAIN_FAILPOINT"
POINTS = (
    "while-working", "after-files", "after-receipt", "before-table", "after-table", "before-marker", "after-marker", "before-receipt-removal",
)  # fmt: skip
_wanted, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count or 1)


def arm(point: str, count: int = 1) -> None:
    """Die the `count`-th time this process passes `point`; an empty name disarms."""
    global _wanted, _left
    _wanted, _left = point, count


def failpoint(name: str) -> None:
    """Die here if this is the place that was asked for."""
    global _left  # noqa: PLW0603
    if name == _wanted:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
