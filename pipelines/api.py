"""The command line's verbs as functions: the same stages, the same words, for notebooks and scripts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from catalog.lake import Lake
from catalog.query import Query
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.unit import StageReport, run_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from annotators.evaluation import QualityReport
    from pipelines.curate.decide import Verdicts
    from pipelines.exporters.base import ExportOptions
    from pipelines.lint.report import LintReport
    from pipelines.mixture.mix import MixtureReport
    from schemas.curation import CurationSpec
    from schemas.mixture import MixtureSpec

Where = Lake | str | Path | None


def open_lake(root: Where = None, **storage_options: str) -> Lake:
    """Return the lake at `root` (any fsspec URL), else at `$COTRAIN_LAKE`, else at `./lake`. Nothing is created yet.

    `storage_options` are object_store's (`aws_access_key_id`, ...); without any, the file that `$COTRAIN_STORAGE` names is read.

    Raises:
        UsageError: the URL carries credentials, or an option is unknown.
    """
    if isinstance(root, Lake):
        return root
    lake = Lake.at(root)
    return Lake(lake.root, storage_options) if storage_options else lake


def query(sql: str, lake: Where = None) -> pl.DataFrame:
    """Answer a SELECT over the catalog: `query("SELECT source, count(*) FROM episodes GROUP BY source")`.

    Raises:
        UsageError: the statement does not parse or names an unknown table.
    """
    return Query(Catalog(open_lake(lake))).sql(sql)


def ingest(
    uri: str | Path,
    lake: Where = None,
    *,
    dataset: str | None = None,
    kind: str = "auto",
    licence: str | None = None,
    contract: dict[str, Any] | None = None,
    check: Literal["none", "ends", "all"] = "ends",
    texts: str = "",
    settings: dict[str, Any] | None = None,
    execution: Execution | None = None,
) -> StageReport:
    """Ingest a source into packet shards; a second call does nothing.

    Args:
        uri: what to read.
        lake: where to write.
        dataset: its name in the lake; default from the URI.
        kind: source format; `auto` recognises it.
        licence: licence to record.
        contract: what the source does not say, see `schemas.contract.overlay`.
        check: how much of each camera to test-decode.
        texts: a table of timed text, or a folder of such tables.
        settings: what only this format's adapter understands.
        execution: where units run.

    Raises:
        DataError: nothing at `uri` is readable as `kind`. Single broken episodes go to the quarantine instead.
        RejectLimitError: too many of them do.
    """
    from pipelines.ingest import IngestStage
    from pipelines.sources.base import SourceOptions, dataset_name
    from pipelines.sources.registry import open_source

    options = SourceOptions(dataset or dataset_name(str(uri)), licence, contract, texts=texts, settings=settings or {})
    return run_stage(IngestStage(open_lake(lake), open_source(str(uri), options, kind), check), execution=execution)


def standardize(
    dataset: str, ops: "str | Path | list[dict[str, Any]] | None", lake: Where = None, *, execution: Execution | None = None
) -> StageReport:
    """Put an op list in force for a dataset: readers, exporters and annotators see the result, shards stay as they are.

    Args:
        dataset: its name.
        ops: a TOML file, the name of a preset, or plain ops (`[{"op": "drop_first"}]`); None or an empty list takes the list away.
        lake: where the dataset is.
        execution: where the unit runs.

    Raises:
        UsageError: there is no such dataset or preset, or an op is wrong, or fails on too many episodes.
        ContractError: an op does not fit the dataset's contract.
    """
    from pipelines.standardise.presets import PRESETS, preset
    from pipelines.standardise.stage import StandardiseStage
    from pipelines.standardise.store import read_ops
    from transforms.standardise.ops import parse_ops

    stage = StandardiseStage(open_lake(lake), dataset)
    if isinstance(ops, (str, Path)):
        wanted = preset(str(ops), stage.contract()) if str(ops) in PRESETS else read_ops(ops)
    else:
        wanted = parse_ops(ops or [])
    return run_stage(StandardiseStage(stage.lake, dataset, wanted), execution=execution, stop_rejects=1.0)


def lint(what: str = "all", lake: Where = None, *, pictures: bool = True, execution: Execution | None = None) -> "LintReport":
    """Check contracts against data; findings also go to the table `scores`. A second call looks at nothing twice.

    Args:
        what: see `pipelines.selection.choose`.
        lake: where the episodes are.
        pictures: whether a few pictures per episode are decoded.
        execution: where units run.

    Raises:
        UsageError: `what` chooses nothing.
    """
    from pipelines.lint.evidence import LintSettings
    from pipelines.lint.report import lint_report
    from pipelines.lint.stage import LintStage, PoolStage

    settings = LintSettings(pictures=pictures)
    shards, pool = LintStage(open_lake(lake), what, settings), PoolStage(open_lake(lake), what, settings)
    run_stage(shards, execution=execution)
    run_stage(pool)
    return lint_report(shards.lake, shards, pool)


def annotate(
    annotator: str,
    lake: Where = None,
    *,
    what: str = "all",
    device: str = "auto",
    execution: Execution | None = None,
    **settings: Any,
) -> StageReport:
    """Run an annotator over the shards of a selection; `settings` are its configuration.

    Raises:
        UnknownNameError: no annotator has that name.
        UsageError: a setting is unknown, `what` chooses nothing, or there is no such device.
    """
    from pipelines.annotate import AnnotateStage

    return run_stage(AnnotateStage.named(open_lake(lake), annotator, what, settings, device), execution=execution)


def evaluate(
    annotator: str,
    lake: Where = None,
    *,
    what: str = "all",
    device: str = "auto",
    execution: Execution | None = None,
    **settings: Any,
) -> "dict[str, tuple[QualityReport, ...]]":
    """Measure an annotator on every dataset of a selection, keep the reports in the table `quality`, and return them per dataset.

    Raises:
        UnknownNameError: no annotator has that name.
        UsageError: a setting is unknown, `what` chooses nothing, or there is no such device.
    """
    from pipelines.annotate import AnnotateStage, EvaluateStage
    from pipelines.annotate.quality import stored_reports

    named = AnnotateStage.named(open_lake(lake), annotator, what, settings)
    stage = EvaluateStage(named.lake, named.annotator, what, device=device)
    report = run_stage(stage, execution=execution)
    return stored_reports(stage.lake, stage.annotator, [u.dataset for u in report.units])


def score(
    what: str = "all", lake: Where = None, *, methods: tuple[str, ...] = (), execution: Execution | None = None
) -> tuple[StageReport, ...]:
    """Score the quality of a selection's episodes by `methods` (all, if none is named); a second call does nothing.

    Raises:
        UnknownNameError: there is no such method.
        UsageError: `what` chooses nothing.
    """
    from pipelines.curate.pooled import PooledScoreStage
    from pipelines.curate.scores import ScoreStage, check_methods

    where, wanted = open_lake(lake), check_methods(methods)
    return tuple(run_stage(kind(where, what, wanted), execution=execution) for kind in (ScoreStage, PooledScoreStage))


def curate(spec: "CurationSpec | str | Path", lake: Where = None) -> "Verdicts":
    """Decide which episodes to keep and store it; `spec` is a `CurationSpec`, a TOML file or TOML text.

    Raises:
        UsageError: the spec does not parse, or names a score that nothing has.
        CoverageError: too little would be left of a task, scene or embodiment; nothing is stored.
    """
    from pipelines.curate.decide import DecideStage
    from schemas.curation import CurationSpec, load_curation

    stage = DecideStage(open_lake(lake), spec if isinstance(spec, CurationSpec) else load_curation(spec))
    verdicts: Verdicts = stage.plan()[0].payload[0]
    run_stage(stage, execution=Execution(workers=0))
    return verdicts


def mix(spec: "MixtureSpec | str | Path", lake: Where = None) -> "MixtureReport":
    """Pin a mixture; `spec` is a `MixtureSpec`, a TOML file or TOML text. `report.text` is the table *asked against realised*.

    Raises:
        UsageError: the spec does not parse or does not fit the catalog.
        InfeasibleMixtureError: weights, caps and floors cannot all hold.
    """
    from pipelines.mixture.mix import mix as compile_and_pin
    from schemas.mixture import MixtureSpec, load_spec

    return compile_and_pin(open_lake(lake), spec if isinstance(spec, MixtureSpec) else load_spec(spec))


def export(
    what: str,
    to: str,
    out: str | Path,
    lake: Where = None,
    *,
    kinds: tuple[str, ...] = (),
    options: "ExportOptions | None" = None,
    accepted: tuple[str, ...] = (),
    execution: Execution | None = None,
) -> StageReport:
    """Export a mixture, dataset or query; every dataset becomes a folder below `out`.

    Args:
        what: see `pipelines.selection.choose`.
        to: a format, a name in `pipelines.exporters.registry`: `lerobot`, `rlds`, `webdataset`, ...
        out: folder or URL.
        lake: where the episodes are.
        kinds: only sources of these kinds (`human`, `robot`, `sim`).
        options: see `pipelines.exporters.base.ExportOptions`.
        accepted: restricted licences, or datasets under one, that the export may contain.
        execution: where units run.

    Raises:
        UsageError: nothing with actions is chosen.
        LicenceError: a restricted licence was not accepted.
        LeakageError: the splits share a group or an episode.
        UnknownNameError: there is no such format.
    """
    from pipelines.export import ExportStage, PartsStage, write_mix_file
    from pipelines.exporters.base import ExportOptions

    stage = ExportStage(open_lake(lake), what, to, str(out), kinds, options or ExportOptions(), accepted)
    if execution is not None and execution.workers != 0:
        run_stage(PartsStage(stage), execution=execution)
    report = run_stage(stage, execution=execution)
    write_mix_file(stage.lake, [u.payload[0] for u in stage.plan()], str(out))
    return report


def verify(out: str | Path, lake: Where = None, *, every: int = 10) -> StageReport:
    """Compare every export at or below `out` with the lake, through the formats' own readers.

    Raises:
        VerificationError: something differs.
        UsageError: the lake knows no export there.
    """
    from pipelines.verify import VerifyStage

    return run_stage(VerifyStage(open_lake(lake), str(out), every))


def cache(
    mixture: str, teachers: "Sequence[str]", lake: Where = None, *, student: str = "", config: "Mapping[str, Any] | None" = None,
    sources: "Sequence[str]" = (), device: str = "cpu", execution: Execution | None = None,
) -> list[StageReport]:  # fmt: skip
    """Cache what teachers know beyond their students over a mixture; a second call computes what is missing.

    Args:
        mixture: `NAME` or `NAME@HASH`.
        teachers: `KIND:PATH` of a checkpoint, or `SOURCE=KIND:PATH` once per source; see docs/residuals.md.
        lake: where the mixture is and the caches go.
        student: likewise, where it is another model than the teacher.
        config: fields of `pipelines.residuals.config.CacheConfig`, such as `mode` and `draws`.
        sources: only these sources of the mixture.
        device: where models run.
        execution: where units run.

    Raises:
        UsageError: a name or a setting is unknown, or teacher and student do not belong together.
    """
    from pipelines.residuals.planning import plan_stages

    stages = plan_stages(open_lake(lake), mixture, teachers, student, config, sources, device)
    return [run_stage(stage, execution=execution or Execution(workers=0)) for stage in stages]
