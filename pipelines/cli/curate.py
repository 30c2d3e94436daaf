"""`cotrain curate`: scores, near-duplicates, splits, and the decisions made from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.options import (
    DryRunOption,
    ExecutorOption,
    JsonOption,
    LakeOption,
    LimitOption,
    RejectsOption,
    SchedulerOption,
    WorkersOption,
    names,
)  # fmt: skip

if TYPE_CHECKING:
    from catalog.lake import Lake
    from pipelines.curate.decide import Verdicts
    from pipelines.terminal.console import Console
    from pipelines.unit import Stage

NAME = "curate"
HELP = "Score episodes, find near-duplicates, split without leakage, and decide what to keep (--spec)."
WhatArgument = Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")]


def command(
    context: typer.Context,
    spec: Annotated[Path | None, typer.Option("--spec", help="Curation spec, TOML: gates, duplicates, coverage.")] = None,
    lake: LakeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int | None:
    """Decide by a spec which episodes to keep: gates in SQL, a reason per rejected episode, coverage guarded. Nothing is deleted."""
    if context.invoked_subcommand is not None:
        return None
    from catalog.lake import Lake
    from pipelines.curate.decide import DecideStage
    from pipelines.executors import Execution
    from pipelines.terminal.console import Console
    from pipelines.unit import run_stage
    from schemas.curation import load_curation
    from schemas.errors import UsageError

    if spec is None:
        raise UsageError("give --spec curation.toml, or one of: cotrain curate score, duplicates, split, import")
    console, wanted = Console(as_json), load_curation(spec)
    stage = DecideStage(Lake.at(lake), wanted)
    verdicts: Verdicts = stage.plan()[0].payload[0]
    document = {"command": NAME, "curation": wanted.name, "spec_hash": wanted.hash, **_show(console, verdicts)}
    if not dry_run:
        report = run_stage(stage, execution=Execution(workers=0))
        document["fresh"] = bool(report.worked)
        status = "decided" if report.worked else "nothing to do, already decided"
        console.text(f"curate: {status}; a mixture takes what is kept with decisions WHERE curation = '{wanted.name}' AND keep")
    console.result(document)
    return 0


def score(
    what: WhatArgument = "all",
    methods: Annotated[str, typer.Option("--methods", help="Scores, comma-separated. Default: all of them.")] = "",
    video_hz: Annotated[float, typer.Option("--video-hz", min=0.1, help="Pictures per second and camera to look at.")] = 10.0,
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Score episodes: smoothness, timing, pictures, agreement. Scores are stored and drop nothing by themselves."""
    from catalog.lake import Lake
    from pipelines.curate.pooled import PooledScoreStage
    from pipelines.curate.scores import ScoreStage, check_methods
    from pipelines.terminal.console import Console

    console, where, wanted = Console(as_json), Lake.at(lake), check_methods(names(methods))
    stages: list[Stage] = [ScoreStage(where, what, wanted, video_hz), PooledScoreStage(where, what, wanted, video_hz)]
    code, done = _perform(console, stages, dry_run, (executor, workers, scheduler), limit, max_rejects)
    console.result({"command": "curate score", "stages": done})
    return code


def duplicates(
    what: WhatArgument = "all",
    kinds: Annotated[
        str, typer.Option("--kinds", help="exact, visual, trajectory; comma-separated.")
    ] = "exact,visual,trajectory",
    lake: LakeOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = None,
    limit: LimitOption = None,
    max_rejects: RejectsOption = 0.2,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Find near-duplicate episodes, within and across datasets and splits; every pair is verified."""
    from catalog.lake import Lake
    from pipelines.curate.duplicates import DuplicateStage
    from pipelines.curate.sketches import SketchStage
    from pipelines.terminal.console import Console

    console, where, wanted = Console(as_json), Lake.at(lake), names(kinds)
    sketch: Stage = SketchStage(where, what, wanted)  # pyright: ignore[reportArgumentType]
    compare: Stage = DuplicateStage(where, what, wanted)  # pyright: ignore[reportArgumentType]
    code, done = _perform(console, [sketch, compare], dry_run, (executor, workers, scheduler), limit, max_rejects)
    found = {"stages": done} if dry_run else {"pairs": _show_pairs(console, where, wanted)}
    console.result({"command": "curate duplicates", **found})
    return code


def split(
    spec: Annotated[Path, typer.Argument(help="Split spec, TOML: keys, shares, duplicates, factors.")],
    lake: LakeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Split a selection so that no key is on both sides; what was assigned stays where it is when episodes are added."""
    import polars as pl

    from catalog.lake import Lake
    from pipelines.curate.splits import Assigned, SplitStage
    from pipelines.executors import Execution
    from pipelines.terminal.console import Console
    from pipelines.unit import run_stage
    from schemas.split import load_split

    console, wanted = Console(as_json), load_split(spec)
    stage = SplitStage(Lake.at(lake), wanted)
    assigned: Assigned = stage.plan()[0].payload[0]
    counted = assigned.rows.group_by("split").agg(pl.len(), pl.col("component").n_unique()).sort("split").rows()
    shares = assigned.shares
    console.table(
        ("split", "episodes", "share", "components"),
        [(s, n, shares.get(s), groups) for s, n, groups in counted],
        title=f"split {wanted.name}",
    )
    console.text(
        f"{assigned.components} components, the largest holds {assigned.giant:.1%} of the episodes; {assigned.breaks} split breaks"
    )
    document: dict[str, Any] = {
        "command": "curate split", "name": wanted.name, "spec_hash": wanted.hash, "splits": {s: n for s, n, _ in counted}, "shares": shares,
        "components": assigned.components, "giant": assigned.giant, "breaks": assigned.breaks,
    }  # fmt: skip
    if not dry_run:
        report = run_stage(stage, execution=Execution(workers=0))
        document["fresh"] = bool(report.worked)
        console.text(f"split: {'stored' if report.worked else 'nothing to do, already stored'} as {wanted.name}")
    console.result(document)
    return 0


def import_scores(
    table: Annotated[Path, typer.Argument(help="Parquet or CSV: episode_id (or dataset and key), value, start_ns, se, detail.")],
    method: Annotated[str, typer.Option("--method", help="Name of the score, where the table has no such column.")] = "",
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Which model and data made it, likewise.")] = "",
    lake: LakeOption = None,
    max_rejects: RejectsOption = 0.2,
    as_json: JsonOption = False,
) -> int:
    """Store scores that something else computed: influence, value models, ratings by people."""
    from catalog.lake import Lake
    from pipelines.curate.outside import ImportStage
    from pipelines.terminal.console import Console

    console, stage = Console(as_json), ImportStage(Lake.at(lake), str(table), method, fingerprint)
    code, done = _perform(console, [stage], False, ("local", 0, None), None, max_rejects)
    console.result({"command": "curate import", "stages": done})
    return code


def evaluate(
    what: WhatArgument = "all",
    methods: Annotated[str, typer.Option("--methods", help="Scores, comma-separated. Default: all of them.")] = "",
    kinds: Annotated[str, typer.Option("--defects", help="Defects, comma-separated. Default: all of them.")] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Spoilt copies per episode and defect.")] = 2,
    video_hz: Annotated[float, typer.Option("--video-hz", min=0, help="Pictures per second to look at; 0: none.")] = 5.0,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Inject known defects into your episodes, in memory, and say which scores see them; with baselines, length controlled."""
    from dataclasses import asdict

    from catalog.lake import Lake
    from pipelines.curate.defects import inject, judge_scores, ledger
    from pipelines.curate.scores import check_methods
    from pipelines.terminal.console import Console
    from transforms.curation.defects import DEFECTS

    console = Console(as_json)
    cases = inject(Lake.at(lake), what, names(kinds) or tuple(DEFECTS), seeds=seeds, video_hz=video_hz or None)
    judged = [j for j in judge_scores(cases, check_methods(names(methods))) if j.seen.measured]
    rows = [(j.method, j.kind, j.spoilt, j.seen.raw, j.seen.matched, j.seen.ci95, j.seen.partial, j.seen.gate) for j in judged]
    columns = ("score", "defect", "spoilt", "AUROC", "same length", "95% interval", "partial rho", "gate")
    console.table(columns, rows, title=f"{len(cases) - ledger(cases).height} good episodes")
    console.result({"command": "curate evaluate", "judgements": [asdict(j) for j in judged], "ledger": ledger(cases).to_dicts()})
    return 0


ACTIONS = {"evaluate": evaluate, "score": score, "duplicates": duplicates, "split": split, "import": import_scores}


def _perform(
    console: "Console",
    stages: "list[Stage]",
    dry_run: bool,
    execution: tuple[str, int | None, str | None],
    limit: int | None,
    max_rejects: float,
) -> tuple[int, list[dict[str, Any]]]:
    """Run the stages one after the other, or describe them; return the exit code and what --json says of each."""
    from pipelines.executors import Execution
    from pipelines.terminal.stages import Running, describe, exit_code, perform, sentence, summary

    code, documents = 0, list[dict[str, Any]]()
    running = Running(console, Execution(*execution), limit, max_rejects)  # pyright: ignore[reportArgumentType]
    for stage in stages:
        if dry_run:
            documents.append(describe(stage, running))
            continue
        report = perform(stage, running)
        console.text(sentence(report))
        documents.append(summary(report))
        code = max(code, exit_code(report))
    return code, documents


def _show(console: "Console", verdicts: "Verdicts") -> dict[str, Any]:
    """Print what is kept and why not; return it for --json."""
    rows = verdicts.rows
    rejected = rows.filter(~rows["keep"])
    gates = rejected.group_by("gate").len().sort("len", descending=True).rows()
    console.text(f"{rows.height - rejected.height} of {rows.height} episodes kept")
    console.table(("gate", "rejected"), gates)
    groups = [g for g in verdicts.coverage.groups if g.share < 1]
    console.table(
        ("guarded", "group", "kept", "of", "retention"), [(g.column, g.group, g.kept, g.episodes, g.share) for g in groups[:40]]
    )
    drops = {c: round(d, 4) for c, d in verdicts.coverage.entropy_drop.items()}
    console.text("entropy lost (nat): " + ", ".join(f"{c} {d:.3f}" for c, d in drops.items()))
    for violation in verdicts.coverage.violations:
        console.note(f"coverage: {violation}")
    return {
        "episodes": rows.height, "kept": rows.height - rejected.height, "rejected_by": dict(gates), "sql": verdicts.sql, "entropy_drop": drops,
        "retention": [{"by": g.column, "group": g.group, "kept": g.kept, "episodes": g.episodes} for g in verdicts.coverage.groups],
        "violations": list(verdicts.coverage.violations),
    }  # fmt: skip


def _show_pairs(console: "Console", lake: "Lake", kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Print how many verified pairs there are, and how many cross a border; return it for --json."""
    import json

    import polars as pl

    from catalog.tables import Catalog

    rows = Catalog(lake).latest("duplicates").filter(pl.col("kind").is_in(list(kinds))).collect()
    told: list[dict[str, Any]] = []
    for (kind,), pairs in rows.group_by(["kind"], maintain_order=True):
        details = [json.loads(d) for d in pairs["detail"].to_list()]
        told.append(
            {"kind": kind, "pairs": pairs.height, **{k: sum(d[k] for d in details) for k in ("across_datasets", "across_splits")}}
        )
    console.table(
        ("kind", "pairs", "across datasets", "across splits"),
        [tuple(t.values()) for t in told],
        title="verified pairs in the lake",
    )
    return told
