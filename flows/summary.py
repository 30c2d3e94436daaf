"""How one stage of a flow went: counts, and nothing that would be heavy to keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.unit import Reject, Unit, UnitReport


@dataclass(frozen=True, slots=True)
class Summary:
    """How one stage went: counts only, fit for a task's result and for tables."""

    stage: str
    dataset: str
    planned: int = 0
    skipped: int = 0
    done: int = 0
    recovered: int = 0
    failed: int = 0
    left: int = 0
    rows: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rejects: tuple[Reject, ...] = field(default=(), repr=False)
    datasets: tuple[str, ...] = ()

    @property
    def worked(self) -> int:
        """Units that did any work."""
        return self.done + self.recovered

    @property
    def is_complete(self) -> bool:
        """Whether every planned unit is done: nothing failed, and there was time for all of it."""
        return not self.failed and not self.left

    @property
    def sentence(self) -> str:
        """The same in words."""
        head = f"{self.stage} {self.dataset}"
        if not self.worked and not self.failed and not self.left:
            return f"{head}: nothing to do, all {self.planned} units are already there"
        tail = f"{self.skipped} already there, {self.failed} failed, {len(self.rejects)} in quarantine"
        tail += f", {self.left} left: the time was up" if self.left else ""
        return f"{head}: {self.worked} units, {self.rows:,} rows, {self.frames:,} frames in {self.seconds:.1f} s; {tail}"


def summarise(stage: str, label: str, planned: Sequence[Unit], todo: Sequence[Unit], reports: Sequence[UnitReport]) -> Summary:
    """Sum up what `reports` say about the units of one stage."""
    count = {s: sum(r.status == s for r in reports) for s in ("done", "recovered", "failed")}
    total = {k: sum(getattr(r, k) for r in reports) for k in ("rows", "frames", "bytes", "seconds")}
    done = [r for r in reports if r.status in ("done", "recovered") and r.rows]
    return Summary(
        stage, label, planned=len(planned), skipped=len(planned) - len(todo), left=len(todo) - len(reports), datasets=tuple(dict.fromkeys(r.dataset for r in done)),
        rejects=tuple(reject for r in reports for reject in r.rejects), **count, **total,
    )  # fmt: skip
