"""Runs the demo's plan, one stage after the other, and times each. Every stage is also a command of its own."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from catalog.lake import Lake
from catalog.query import Query
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.demo.plan import FORMATS, MIXTURE, DemoPlan, DemoSource
from pipelines.export import ExportStage
from pipelines.exporters.base import ExportOptions
from pipelines.ingest import IngestStage
from pipelines.mixture.mix import mix
from pipelines.mixture.shares import render_shares
from pipelines.sources.registry import open_source
from pipelines.terminal.stages import Running, perform, sentence, summary
from pipelines.unit import StageReport
from pipelines.verify import VerifyStage

QUESTION = "SELECT source, count(*) AS episodes, sum(duration_s) AS seconds FROM episodes GROUP BY source ORDER BY source"
EXPORTED = ("sim", "robot")  # human video has no actions, which both formats require


@dataclass(slots=True)
class DemoReport:
    """What the demo did: per step its name, seconds, whether it did any work, and its result."""

    steps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, name: str, seconds: float, worked: bool, result: dict[str, Any]) -> None:
        """Note a finished step."""
        self.steps.append({"step": name, "seconds": round(seconds, 2), "worked": worked, **result})

    @property
    def worked(self) -> bool:
        """Whether any step did any work."""
        return any(s["worked"] for s in self.steps)


@dataclass(frozen=True)
class Demo:
    """The demo over one lake."""

    lake: Lake
    plan: DemoPlan
    running: Running
    report: DemoReport = field(default_factory=DemoReport)

    def run(self) -> DemoReport:
        """Do every step in order. A second run finds everything done."""
        self._heading()
        self._step("record", self._record)
        self._step("make", self._make)
        for source in self.plan.sources:
            self._step(f"ingest {source.name}", lambda s=source: self._stage(IngestStage(self.lake, _open(s))))
        self._step("query", self._query)
        self._step("annotate", self._annotate)
        self._step("mix", self._mix)
        for name in FORMATS:
            self._step(f"export {name}", lambda f=name: self._stage(self._export(f)))
        for name in FORMATS:
            self._step(f"verify {name}", lambda f=name: self._verify(f))
        self._step("report", self._report)
        return self.report

    def _heading(self) -> None:
        console = self.running.console
        console.text(f"cotrain demo: lake {self.lake.root}, work {self.plan.work}")
        for source in self.plan.sources:
            console.text(f"  {source.name:6} {source.about}")
        console.text()

    def _step(self, name: str, do: Callable[[], tuple[bool, str, dict[str, Any]]]) -> None:
        started = time.perf_counter()
        worked, text, result = do()
        seconds = time.perf_counter() - started
        self.report.add(name, seconds, worked, result)
        if text:
            self.running.console.text(f"[{seconds:6.1f} s] {name:16} {text}")

    def _stage(self, stage: Any) -> tuple[bool, str, dict[str, Any]]:
        report: StageReport = perform(stage, self.running)
        return report.worked > 0, _after(sentence(report)), summary(report)

    def _record(self) -> tuple[bool, str, dict[str, Any]]:
        from pipelines.record.record import record

        with self.running.console.progress("record") as update:
            done = 0

            def on_episode(_: object) -> None:
                nonlocal done
                done += 1
                update(done, done)

            made = record(
                self.plan.recording, self.plan.recordings, workers=self.running.execution.workers, on_episode=on_episode
            )
        if made.episodes == 0:
            return False, f"nothing to do, all {made.skipped} episodes are already recorded", {"episodes": 0}
        text = f"{made.episodes} episodes, {made.successes} successful, {made.frames:,} pictures ({made.frames / made.seconds:.0f}/s)"
        return True, text, {"episodes": made.episodes, "successes": made.successes, "frames": made.frames}

    def _make(self) -> tuple[bool, str, dict[str, Any]]:
        """Write the stand-ins for real data this machine does not have."""
        from pipelines.record import demo_sets

        makers = {"lerobot": demo_sets.write_lerobot_set, "human_video": demo_sets.write_ego_clip}
        missing = [s for s in self.plan.sources if s.made and s.kind in makers and not s.uri.exists()]
        for source in missing:
            makers[source.kind](source.uri)
        names = ", ".join(s.name for s in missing)
        return bool(missing), f"wrote stand-ins for real data: {names}" if names else "", {"made": [s.name for s in missing]}

    def _query(self) -> tuple[bool, str, dict[str, Any]]:
        frame = Query(Catalog(self.lake)).sql(QUESTION)
        text = "; ".join(f"{s}: {n} episodes, {t:.1f} s" for s, n, t in frame.iter_rows())
        return False, text, {"sql": QUESTION, "rows": frame.rows()}

    def _annotate(self) -> tuple[bool, str, dict[str, Any]]:
        return self._stage(AnnotateStage.named(self.lake, "language_motion", "SELECT episode_id FROM episodes WHERE has_action"))

    def _mix(self) -> tuple[bool, str, dict[str, Any]]:
        made = mix(self.lake, self.plan.mixture)
        table = "\n".join("           " + line for line in render_shares(made.shares).splitlines())
        status = "pinned" if made.fresh else "nothing to do, already pinned as"
        return made.fresh, f"{status} {made.name}@{made.hash}\n{table}", made.to_dict()

    def _export(self, name: str) -> ExportStage:
        return ExportStage(self.lake, f"mixture:{MIXTURE}", name, str(self.plan.exports / name), EXPORTED, ExportOptions())

    def _verify(self, name: str) -> tuple[bool, str, dict[str, Any]]:
        report: StageReport = perform(VerifyStage(self.lake, str(self.plan.exports / name)), self.running)
        found = self.verified(name)
        steps, frames = (sum(f[k] for f in found) for k in ("steps_compared", "frames_compared"))
        differences, warnings = (sum(len(f[k]) for f in found) for k in ("differences", "warnings"))
        readers = ", ".join(sorted({f["reader"] for f in found}))
        text = f"{readers}: {steps:,} steps and {frames:,} frames compared, {differences} differences, {warnings} warnings"
        again = "" if report.worked else " (verified before, unchanged)"
        return report.worked > 0, text + again, {"exports": found, "differences": differences}

    def verified(self, name: str) -> list[dict[str, Any]]:
        """Return what verification found for every export of format `name`."""
        rows = Catalog(self.lake).latest("publications").collect()
        below = rows.filter(pl.col("uri").str.starts_with(f"{(self.plan.exports / name).resolve()}/"))
        return [
            {"uri": r["uri"], "format": r["format"], "episodes": r["episodes"], "rows": r["rows"], "bytes": r["bytes"],
             **json.loads(r["report"])["export"], **json.loads(r["report"]).get("verify", {})}
            for r in below.sort("uri").iter_rows(named=True)
        ]  # fmt: skip

    def _report(self) -> tuple[bool, str, dict[str, Any]]:
        from pipelines.demo.page import NAME, write_page

        uri = self.lake.report(f"{NAME}.html")
        if not self.report.worked and self.lake.fs.exists(uri):
            return False, f"{uri} (unchanged)", {"uri": uri}
        return True, write_page(self.lake, self.report.steps, self.plan.exports), {"uri": uri}


def _open(source: DemoSource) -> Any:
    return open_source(str(source.uri), source.options, source.kind)


def _after(text: str) -> str:
    return text.partition(": ")[2]
