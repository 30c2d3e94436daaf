"""The mix stage: a spec becomes a pinned mixture in the lake, exactly once per content."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.mixture.compile import CODE, Compiled, compile_mixture
from pipelines.mixture.manifest import INDEX_FILE, MANIFEST, STATS_FILE, Manifest, Mixture, index_bytes, open_mixture
from pipelines.mixture.shares import SourceShare, render_shares
from pipelines.mixture.statistics import Statistics, compute_statistics
from pipelines.publish import publish_bytes
from pipelines.unit import Output, StageReport, Unit, UnitReport, run_stage
from schemas.errors import DataError, LakeError
from schemas.ids import canonical_json, unit_id
from schemas.mixture import MixtureSpec


@dataclass(frozen=True, slots=True)
class MixStage:
    """One unit: compile, summarise, write, register. `compiled` spares a caller who has it a second compilation."""

    lake: Lake
    spec: MixtureSpec
    compiled: Compiled | None = None
    name: str = "mix"

    def plan(self) -> Sequence[Unit]:
        """Return the single unit; its id depends on the mixture's content, so an unchanged selection is already done.

        Raises:
            UsageError: the spec does not fit the catalog.
            InfeasibleMixtureError: the shares cannot hold.
        """
        compiled = self.compiled or compile_mixture(self.lake, self.spec)
        name = unit_id(self.name, [self.spec.name, compiled.hash], {}, CODE)
        return [
            Unit(name, self.name, self.spec.name, f"{self.spec.name}@{compiled.hash}", compiled, episodes=len(compiled.index))
        ]

    def work(self, unit: Unit) -> Output:
        """Write index, statistics and, last, the manifest that makes them a mixture."""
        compiled: Compiled = unit.payload
        try:
            statistics = compute_statistics(self.lake, compiled.index, self.spec.image_frames) if self.spec.statistics else None
        except DataError as error:  # in quarantine it would count as done; half a mixture is none
            raise LakeError(f"mixture {unit.label}: its statistics cannot be computed: {error}") from error
        manifest = Manifest.of(compiled, statistics)
        contents = {INDEX_FILE: index_bytes(compiled.index)}
        if statistics is not None:
            contents[STATS_FILE] = statistics.to_json()
        contents[MANIFEST] = manifest.to_json()
        folder = self.lake.mixture(self.spec.name, compiled.hash)
        files = tuple(publish_bytes(self.lake, data, f"{folder}/{name}") for name, data in contents.items())
        size = sum(f.bytes for f in files)
        row = {
            "name": self.spec.name, "hash": compiled.hash, "spec": canonical_json(self.spec.to_dict()).decode(),
            "pins": canonical_json(compiled.pins).decode(), "uri": self.lake.relative(folder), "samples": self.spec.samples,
            "episodes": len(compiled.index), "shares": json.dumps([asdict(s) for s in compiled.shares]),
        }  # fmt: skip
        return Output(files, {"mixtures": pa.Table.from_pylist([row])}, rows=len(compiled.index), bytes=size)


@dataclass(frozen=True, slots=True)
class MixtureReport:
    """What `mix` made, or found already made. `text` is the table *asked vs realised*."""

    name: str
    hash: str
    uri: str
    samples: int
    fresh: bool
    shares: tuple[SourceShare, ...]
    statistics: Statistics | None
    stage: StageReport

    @property
    def text(self) -> str:
        """The table for people."""
        return render_shares(self.shares)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the same facts for programs."""
        return {
            "name": self.name, "hash": self.hash, "uri": self.uri, "samples": self.samples, "fresh": self.fresh,
            "sources": [asdict(s) for s in self.shares], "statistics": self.statistics.hash if self.statistics else None,
        }  # fmt: skip


def mix(
    lake: Lake,
    spec: MixtureSpec,
    *,
    execution: Execution | None = None,
    on_unit: Callable[[UnitReport], None] | None = None,
) -> MixtureReport:
    """Compile `spec` and pin it in the lake; a no-op where the same content is pinned already.

    Raises:
        UsageError: the spec does not fit the catalog.
        InfeasibleMixtureError: weights, caps and floors cannot all hold.
        LakeError: a shard or the pinned mixture is damaged.
    """
    compiled = compile_mixture(lake, spec)
    stage = MixStage(lake, spec, compiled)
    report = run_stage(stage, execution=execution, on_unit=on_unit)
    if report.rejects:
        raise LakeError(f"mixture {spec.name} was not written: {report.rejects[0].message}")
    mixture = _opened(stage, compiled)
    uri = lake.relative(lake.mixture(spec.name, compiled.hash))
    return MixtureReport(
        spec.name, compiled.hash, uri, spec.samples, report.worked > 0, mixture.shares, mixture.statistics, report
    )


def _opened(stage: MixStage, compiled: Compiled) -> Mixture:
    """Open what was just mixed; files lost or damaged since an earlier run are written again."""
    try:
        mixture = open_mixture(stage.lake, stage.spec.name, compiled.hash)
        _ = mixture.statistics
    except LakeError:
        stage.work(stage.plan()[0])
        return open_mixture(stage.lake, stage.spec.name, compiled.hash)
    return mixture
