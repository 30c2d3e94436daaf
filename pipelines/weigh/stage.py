"""The weigh stage: how much more likely each episode of a prior is in a target, as a score, computed once per content."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.compile import contracts_of
from pipelines.publish import seal_of
from pipelines.selection import choose
from pipelines.unit import Output, Unit
from pipelines.weigh.embed import read_embeddings, shared_features, summarise
from schemas.errors import UsageError
from schemas.ids import short_id, unit_id
from schemas.tables import SCORES
from transforms.density import BACKENDS, Backend, Ratios, density_ratio

CODE = "1"  # raise when the same episodes get other scores
METHOD = "density_ratio"


@dataclass(frozen=True, slots=True)
class WeighStage:
    """One unit: embed both selections, estimate, write a score per episode of the prior.

    Attributes:
        lake: where episodes are and scores go.
        target: what to look like; see `pipelines.selection.choose`.
        prior: what to weigh.
        backend: see `transforms.density`.
        features: to summarise; empty: every state and action that all datasets share.
        embeddings: a Parquet file to use in place of summaries; empty: none.
        method: name of the score.
        seed: of folds and sub-samples.
    """

    lake: Lake
    target: str
    prior: str
    backend: Backend = "clf"
    features: tuple[str, ...] = ()
    embeddings: str = ""
    method: str = METHOD
    seed: int = 0
    name: str = "weigh"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"there is no back-end {self.backend!r}; there are {', '.join(BACKENDS)}")
        if self.features and self.embeddings:
            raise UsageError("features are what cotrain summarises itself; with embeddings from a file, leave them out")

    def plan(self) -> Sequence[Unit]:
        """Return the single unit; its id depends on both selections' content, so what did not change is already done.

        Raises:
            UsageError: a selection is empty, or the datasets share no feature.
        """
        target, prior = (choose(self.lake, what).episodes.filter(pl.col("steps") > 0) for what in (self.target, self.prior))
        features = () if self.embeddings else self._features(target, prior)
        if self.embeddings and not Path(self.embeddings).is_file():
            raise UsageError(f"{self.embeddings} is not a file; give a Parquet file of embeddings")
        space = [*features, seal_of(Path(self.embeddings)) if self.embeddings else ""]
        content = [frame.select("episode_id", "content_hash").rows() for frame in (target, prior)]
        print_ = short_id("fp", [self.method, self.backend, space, content, self.seed, CODE])
        label = f"{self.method} of {self.prior} towards {self.target}"
        payload = (target, prior, features, print_)
        return [Unit(unit_id(self.name, content, print_, CODE), self.name, self.prior, label, payload, episodes=len(prior))]

    def work(self, unit: Unit) -> Output:
        """Estimate and write.

        Raises:
            UsageError: an embedding is missing or not finite.
        """
        target, prior, features, print_ = unit.payload
        points = [self._embed(frame, features) for frame in (target, prior)]
        ratios = density_ratio(points[0], points[1], self.backend, seed=self.seed)
        detail = json.dumps(facts(self, unit, ratios), sort_keys=True)
        rows = pl.DataFrame({"episode_id": prior["episode_id"], "value": ratios.log_ratio}).to_dicts()
        more: dict[str, Any] = {"method": self.method, "fingerprint": print_, "start_ns": 0, "end_ns": None, "detail": detail}
        schema = pa.schema(
            [SCORES.schema.field(n) for n in ("method", "fingerprint", "episode_id", "start_ns", "end_ns", "value", "detail")]
        )
        return Output((), {"scores": pa.Table.from_pylist([more | row for row in rows], schema=schema)}, rows=len(rows))

    def _features(self, target: pl.DataFrame, prior: pl.DataFrame) -> tuple[str, ...]:
        datasets = {*target["dataset"].unique(), *prior["dataset"].unique()}
        return shared_features(list(contracts_of(Catalog(self.lake), {}, datasets).values()), self.features)

    def _embed(self, episodes: pl.DataFrame, features: Sequence[str]) -> Any:
        if self.embeddings:
            return read_embeddings(Path(self.embeddings), episodes)
        return summarise(self.lake, episodes, features)


def facts(stage: WeighStage, unit: Unit, ratios: Ratios) -> dict[str, Any]:
    """Return what a score's `detail` says of the estimate it belongs to."""
    target, prior, features, _ = unit.payload
    return {
        "backend": stage.backend, "target": stage.target, "prior": stage.prior, "features": list(features),
        "target_episodes": len(target), "prior_episodes": len(prior), "ess": round(ratios.ess, 3),
        "moment_residual": round(ratios.residual, 6), "moment_residual_unweighted": round(ratios.unweighted, 6),
    }  # fmt: skip


def told(lake: Lake, method: str, fingerprint: str) -> dict[str, Any]:
    """Return the facts of a written estimate, from its rows."""
    rows = Catalog(lake).scan("scores").filter((pl.col("method") == method) & (pl.col("fingerprint") == fingerprint))
    return json.loads(rows.select("detail").head(1).collect().item())
