"""One flow run: its lake, its progress bar, its time, and what its stages did. Flows say what; this says how each stage is run."""

from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from catalog.lake import Lake
from catalog.tables import Catalog
from flows.artifacts import Progress, failures, stage_table
from flows.summary import Summary, summarise
from flows.tasks import batches, plan_stage, run_batch, run_on_cluster
from pipelines.executors.execution import deadline, is_over
from pipelines.unit import STOP_REJECTS, Judge, Stage, Unit, UnitReport
from schemas.ids import short_id

TASKS_AT_ONCE = 2  # threads; decoding and storage release the interpreter
RUNNER: Any = ThreadPoolTaskRunner(max_workers=TASKS_AT_ONCE)


class Run:
    """A flow run over one lake; to be made inside a flow."""

    def __init__(
        self, flow: str, lake: Lake | str | None, steps: int = 1, *, budget_s: float | None = None,
        stop_rejects: float = STOP_REJECTS, scheduler: str | None = None,
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            flow: what the artifacts' keys start with.
            lake: root of the lake, a lake, or None for `$COTRAIN_LAKE`, else `./lake`.
            steps: how many stages there will be.
            budget_s: no unit is started after so many seconds; what is open is finished.
            stop_rejects: share of rejected episodes above which the run stops.
            scheduler: address of a Dask scheduler to work on instead of here.
        """
        self.flow, self.lake = flow, lake if isinstance(lake, Lake) else Lake.at(lake)
        self.catalog, self.summaries = Catalog(self.lake), list[Summary]()
        self._progress = Progress(f"{flow}-progress", steps)
        self._until, self._stop_rejects, self._scheduler = deadline(budget_s), stop_rejects, scheduler

    def do(self, stage: Stage, label: str = "") -> Summary:
        """Run the open units of a stage as tasks and wait for them; `label` names it, else the datasets of its units do.

        Raises:
            RejectLimitError: too much of the input is unusable; what was done stays committed.
            TransportError: storage stayed away for longer than the retries last.
        """
        planned, todo = plan_stage.with_options(task_run_name=f"plan {stage.name} {label}".strip())(stage)
        label = label or ", ".join(dict.fromkeys(u.dataset for u in planned))
        reports = list[UnitReport]()
        try:
            self._work(stage, label, todo, reports)
        except Exception as error:
            self.summaries.append(summarise(stage.name, label, planned, todo, reports))
            failures(self.flow, self.summaries, error)
            raise
        summary = summarise(stage.name, label, planned, todo, reports)
        self.summaries.append(summary)
        get_run_logger().info(summary.sentence)
        self._progress.advance(f"{stage.name} {label}")
        return summary

    def end(self) -> State[Any]:
        """Publish the table of what was done, and return the state the flow ends in."""
        stage_table(f"{self.flow}-summary", self.summaries)
        failures(self.flow, self.summaries)
        worked, failed, left = (sum(getattr(s, name) for s in self.summaries) for name in ("worked", "failed", "left"))
        rejects = sum(len(s.rejects) for s in self.summaries)
        if failed:
            text = f"{failed} units failed for reasons the code did not foresee"
            return Failed(message=f"{text}; see the artifact {self.flow}-failures and quarantine, then run again")
        text = f"{worked} units done" if worked else "nothing to do: everything was already there"
        if left:
            text = f"{worked} units done, the time was up with {left} left for the next run"
        return Completed(message=f"{text}, {rejects} rejects in quarantine")

    def _work(self, stage: Stage, label: str, todo: Sequence[Unit], reports: list[UnitReport]) -> None:
        def on_unit(_: UnitReport) -> None:
            nonlocal seen
            seen += 1
            self._progress.within(seen / len(todo), f"{stage.name} {label}: {seen} of {len(todo)} units")

        seen = 0
        if self._scheduler and todo:
            reports += run_on_cluster(stage, self._scheduler, self._stop_rejects, self._until, on_unit)
            return
        judge = Judge(stage.name, self._stop_rejects, "then run the flow again: what was done stays")
        episodes = {u.id: u.episodes for u in todo}
        run = short_id("run", [stage.name, label, str(runtime.flow_run.id)])
        futures = [
            run_batch.with_options(task_run_name=f"{stage.name} {label} {i + 1}").submit(stage, batch, run, self._until)
            for i, batch in enumerate(batches(todo))
            if not is_over(self._until)
        ]
        for future in as_completed(futures):
            found = future.result()
            reports += found
            for report in found:
                on_unit(report)
            judge.take(sum(episodes[r.unit] for r in found), [reject for r in found for reject in r.rejects])
