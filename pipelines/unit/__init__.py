"""The one loop that does all work: plan, skip what is committed, work, write, commit, quarantine.

Exactly-once is a property of the commit, not of the work. A unit's files get their final names, a receipt is written, then its
rows are appended to each catalog table under the unit's mark, `runs` last: the row in `runs` is what marks a unit as done. Killed
anywhere, a rerun finds the marker (skip), the receipt (commit without working again) or neither (work again).
"""

from pipelines.unit.commit import MARKER
from pipelines.unit.execute import execute, execute_batch
from pipelines.unit.loop import STOP_REJECTS, Judge, run_stage
from pipelines.unit.model import Output, Reject, Stage, StageReport, Unit, UnitReport, gpus_of
from pipelines.unit.outstanding import damaged_units, outstanding, pending

__all__ = [
    "MARKER", "STOP_REJECTS", "Judge", "Output", "Reject", "Stage", "StageReport", "Unit", "UnitReport", "damaged_units", "execute",
    "execute_batch", "gpus_of", "outstanding", "pending", "run_stage",
]  # fmt: skip
