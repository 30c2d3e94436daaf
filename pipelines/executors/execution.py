"""How to run units: which executor, how many workers, for how long. Starts nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas.errors import UsageError

IN_FLIGHT_PER_WORKER = 2  # bounds memory: submitted, not yet finished units

type Call = tuple[Any, ...]
type Outcome = tuple[Call, Any]


class Calls(Protocol):
    """Arguments of calls, one tuple per call: how many there may be, and each as its turn comes."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Call]: ...


@dataclass(frozen=True, slots=True)
class Execution:
    """How to run units.

    Attributes:
        kind: `local` or `dask`.
        workers: processes; 0 means in this process. None picks one per core; in this process for a single unit without a time
            limit, and for work on a GPU.
        scheduler: address of a running Dask scheduler; without it `dask` starts a local cluster.
        timeout_s: a unit running longer is killed and quarantined (local worker processes only).
        until: no unit is started after this reading of `time.monotonic()`; see `deadline`.
    """

    kind: Literal["local", "dask"] = "local"
    workers: int | None = None
    scheduler: str | None = None
    timeout_s: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("local", "dask"):
            raise UsageError(f"executor {self.kind!r} is unknown; use 'local' or 'dask'")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers} makes no sense; use 0 to run in this process")
        if self.scheduler and self.kind != "dask":
            raise UsageError(f"--scheduler {self.scheduler} is only used by --executor dask; add it")
        if self.timeout_s is not None and (self.kind == "dask" or self.workers == 0):
            raise UsageError(
                "--unit-timeout needs local worker processes, which can be killed: use --workers 1 or more, without dask"
            )

    def in_time(self, calls: Calls) -> Iterator[Call]:
        """Hand out `calls` one by one until the time is up."""
        for call in calls:
            if is_over(self.until):
                return
            yield call


def deadline(budget_s: float | None) -> float | None:
    """Return the `Execution.until` that lies `budget_s` seconds ahead; None for no limit.

    Raises:
        UsageError: the budget is negative.
    """
    if budget_s is None:
        return None
    if budget_s < 0:
        raise UsageError(f"--budget-s {budget_s} makes no sense; give the seconds after which no unit is started")
    return time.monotonic() + budget_s


def is_over(until: float | None) -> bool:
    """Tell whether the time of an `Execution.until` is up."""
    return until is not None and time.monotonic() >= until


def described(function: Callable[..., Any], call: Call) -> str:
    """Name the work of a call in an error: its stage where the first argument is one."""
    name = getattr(call[0], "name", None) if call else None
    kind = type(call[0]) if call else type(None)
    return f"stage {name!r} ({kind.__module__}.{kind.__qualname__})" if name else f"{function.__module__}.{function.__qualname__}"
