"""What the unit loop passes around: units, what they made, and how they went. Does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pyarrow as pa

from catalog.lake import Lake
from pipelines.publish import PublishedFile

NOTHING: dict[str, Any] = {}  # no measures; one for all, because reports come by the million
type Status = Literal["done", "recovered", "skipped", "failed", "left"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A bounded piece of work. `id` hashes its inputs, configuration and code version; `payload` is what `Stage.work` needs.

    `again` counts how often the unit was committed before, where it has to be committed once more because other units have replaced
    its rows since; see `pipelines.unit.outstanding`. Plans leave it at 0.
    """

    id: str
    stage: str
    dataset: str
    label: str
    payload: Any
    bytes: int = 0
    episodes: int = 0
    again: int = 0

    @property
    def mark(self) -> str:
        """The Delta application transaction under which its rows are committed."""
        return f"{self.id}+{self.again}" if self.again else self.id


@dataclass(frozen=True, slots=True)
class Reject:
    """One piece of input that could not be used, and why."""

    key: str
    uri: str
    error: str
    message: str
    episodes: int = 1

    @classmethod
    def of(cls, error: BaseException, key: str, uri: str = "", episodes: int = 1) -> "Reject":
        """Describe `error` for the quarantine, with the context it gathered on the way up."""
        notes = "; ".join(getattr(error, "__notes__", []))
        message = f"{error}{' (' + notes + ')' if notes else ''}"
        return cls(key, getattr(error, "uri", "") or uri, type(error).__name__, message, episodes)


@dataclass(frozen=True, slots=True)
class Output:
    """What a unit made: files already published, rows to commit per catalog table, and rejects.

    `measures` goes into further columns of its row in `runs`: where the time went, on which device.
    """

    files: tuple[PublishedFile, ...] = ()
    tables: dict[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    rejects: tuple[Reject, ...] = ()
    rows: int = 0
    frames: int = 0
    bytes: int = 0
    measures: dict[str, Any] = field(default_factory=dict[str, Any])


class Stage(Protocol):
    """One kind of work. Instances are small, frozen and picklable: they travel to workers.

    A stage may also say `gpus`, how many GPUs one unit needs; see `gpus_of`.
    """

    @property
    def name(self) -> str:
        """Short name: `ingest`, `annotate`, ..."""
        ...

    @property
    def lake(self) -> Lake:
        """Where results go."""
        ...

    def plan(self) -> Sequence[Unit]:
        """List every unit of this stage, done or not, without doing any of it."""
        ...

    def work(self, unit: Unit) -> Output:
        """Do `unit`: publish its files and return its rows. May run twice; must give the same files both times."""
        ...


def gpus_of(stage: Stage) -> int:
    """Return how many GPUs one unit of `stage` needs: its `gpus` where it says so, else none."""
    return int(getattr(stage, "gpus", 0))


@dataclass(frozen=True, slots=True)
class UnitReport:
    """How one unit went. `failed` units keep no marker and are tried again by the next run; for `left` ones there was no time."""

    unit: str
    label: str
    dataset: str
    status: Status
    rows: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rejects: tuple[Reject, ...] = ()
    measures: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class StageReport:
    """How a whole stage went: one report per planned unit."""

    stage: str
    units: tuple[UnitReport, ...]
    seconds: float
    episodes_planned: int

    def count(self, status: str) -> int:
        """Number of units with `status`."""
        return sum(u.status == status for u in self.units)

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """Every reject of this run."""
        return tuple(r for u in self.units for r in u.rejects)

    @property
    def worked(self) -> int:
        """Units that did any work in this run."""
        return self.count("done") + self.count("recovered")

    def total(self, what: Literal["rows", "frames", "bytes"]) -> int:
        """Sum of `what` over the units worked on in this run."""
        return sum(getattr(u, what) for u in self.units)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a unit cost where it was worked on: a part of its row in `runs`."""

    started_ns: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    host: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A unit that was worked on and waits to be committed.

    Attributes:
        unit: which.
        status: `done`, or `recovered` from a receipt, or `failed`: nothing is committed but its reject.
        measured: what it cost.
        output: what to commit; None where it is too large to travel and lies in the receipt.
        receipt: whether there is one.
        rejects: of the unit; of a failed one, why.
    """

    unit: Unit
    status: Status
    measured: Measured
    output: Output | None = None
    receipt: bool = False
    rejects: tuple[Reject, ...] = ()
