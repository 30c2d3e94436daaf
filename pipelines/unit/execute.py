"""Doing units: the work of one in the process it runs in, and the two calls that also commit it."""

import resource
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catalog.append import Part, marks_in
from catalog.fault import lake_faults
from catalog.tables import Catalog
from pipelines.executors.execution import is_over
from pipelines.unit.commit import MARKER, Committer
from pipelines.unit.failpoints import failpoint
from pipelines.unit.model import Finished, Measured, Output, Reject, Stage, Unit, UnitReport
from pipelines.unit.receipt import is_worth_a_receipt, recover, write_receipt
from schemas.errors import CotrainError, DataError, WorkerCrashError
from schemas.tables import TABLES

TRAVELS_BYTES = 1 << 18  # larger rows stay in the receipt instead of going through a worker's pipe


def execute(stage: Stage, unit: Unit, run: str, repair: bool = False) -> UnitReport:
    """Do one unit exactly once, commit included.

    With `repair` a committed unit's files are made again; its rows are not, because appending them again changes nothing.
    """
    if not repair and Catalog(stage.lake).committed(MARKER, unit.mark):
        return UnitReport(unit.id, unit.label, unit.dataset, "skipped")
    return Committer(stage, run, repair=repair).commit([prepare(stage, unit)])[0]


def execute_batch(stage: Stage, units: Iterable[Unit], run: str, until: float | None = None) -> list[UnitReport]:
    """Do several units one after the other in this process and commit them together: the body of a Prefect task.

    What is finished when an error ends the batch is committed first. No unit is started after `until`, a reading of
    `time.monotonic()`; those that are not have no report.
    """
    asked = list(units)
    done = _committed(Catalog(stage.lake), asked)
    reports = [UnitReport(u.id, u.label, u.dataset, "skipped") for u in asked if u.mark in done]
    committer = Committer(stage, run)
    with committer:
        for unit in asked:
            if is_over(until):
                break
            if unit.mark not in done:
                reports += committer.add(prepare(stage, unit))
        reports += committer.flush()
    return reports


def prepare(stage: Stage, unit: Unit) -> Finished:
    """Do the work of one unit, or find it done; everything but the commit. This is what workers run.

    Raises:
        CotrainError: the lake, the network or the caller is at fault, not this unit's input.
    """
    meter = Meter.start()
    output = recover(stage.lake, unit)
    if output is not None:
        return Finished(unit, "recovered", meter.read(), _light(output), True, output.rejects)
    try:
        failpoint("while-working")
        with lake_faults(stage.lake):
            output = stage.work(unit)
        failpoint("after-files")
    except DataError as error:
        # The input is at fault and will be again: the unit is done, with nothing to show but the reason.
        output = Output(rejects=(Reject.of(error, unit.label, episodes=max(unit.episodes, 1)),))
    except CotrainError:
        raise
    except Exception as error:
        return crashed(unit, error, meter.read())
    receipt = is_worth_a_receipt(output, meter.read().seconds)
    if receipt:
        with lake_faults(stage.lake):
            write_receipt(stage.lake, unit, output)
        failpoint("after-receipt")
    return Finished(unit, "done", meter.read(), _light(output) if receipt else output, receipt, output.rejects)


def crashed(unit: Unit, error: BaseException, measured: Measured | None = None) -> Finished:
    """Describe a unit that broke for a reason the code did not foresee; without a marker, so the next run tries again."""
    if isinstance(error, CotrainError) and not isinstance(error, WorkerCrashError):
        raise error
    reject = Reject.of(error, unit.label, episodes=max(unit.episodes, 1))
    return Finished(unit, "failed", measured or Meter.start().read(), rejects=(reject,))


@dataclass(frozen=True, slots=True)
class Meter:
    """Takes a unit's time and memory. The peak is the process's: of several units in one process, the largest so far."""

    started_ns: int
    wall: float
    cpu: float

    @classmethod
    def start(cls) -> "Meter":
        """Start now."""
        return cls(time.time_ns(), time.perf_counter(), time.process_time())

    def read(self) -> Measured:
        """Return what was used up to now."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return Measured(self.started_ns, wall, cpu, peak, socket.gethostname())


def _light(output: Output) -> Output | None:
    return output if sum(t.nbytes for t in output.tables.values()) <= TRAVELS_BYTES else None


def _committed(catalog: Catalog, units: Sequence[Unit]) -> set[str]:
    delta = catalog.open(MARKER)
    if delta is None or not units:
        return set()
    return marks_in(delta, [Part(u.id, TABLES[MARKER].schema.empty_table(), u.mark) for u in units])
