"""The counterfactual stage: takes of one scene pass through the same filters as moments of one episode, one side table per shard.

Rows belong to the episode a take starts from; `target_episode` names the other one. What a simulator was told to change is the truth,
and no filter sees it but the kind of edit, which only names an accepted pair.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from annotators.base import Batch
from annotators.evaluation import QualityReport, known, not_measurable, ratio, verdict
from annotators.spans import constant, span_table
from annotators.triplets.evaluation import PRECISION
from annotators.triplets.filters import judge
from annotators.triplets.pair import Evidence, Pair
from annotators.triplets.rows import Kept, Row, columns_of, negatives_of, with_verdict
from annotators.triplets.triplets import Triplets
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.publish import publish, temporary_for
from pipelines.selection import choose
from pipelines.shards.reader import Shard, open_shard
from pipelines.triplets.takes import Take, find_takes
from pipelines.unit import Output, Reject, Unit
from schemas.errors import CorruptMediaError
from schemas.ids import unit_id
from transforms.spread import spread

CODE = "1"
LEAST_GAIN = 1.01
NAME = "triplets_counterfactual"  # under which its side tables are listed
MOMENTS = 3  # of a scene that was rendered again


@dataclass(frozen=True, slots=True)
class CounterfactualStage:
    """Judge every take whose first episode is in a selection.

    Attributes:
        lake: where the episodes are.
        annotator: whose filters and thresholds.
        what: see `pipelines.selection.choose`.
    """

    lake: Lake
    annotator: Triplets = field(default_factory=Triplets)
    what: str = "all"
    name: str = "counterfactuals"

    def plan(self) -> Sequence[Unit]:
        """One unit per shard that holds a chosen episode and the first one of a take."""
        chosen, shards = set(choose(self.lake, self.what).episodes["shard"]), dict[tuple[str, str], list[Take]]()
        for take in find_takes(Catalog(self.lake).latest("episodes").sort("dataset", "shard", "first_row").collect()):
            if (
                take.source["shard"] in chosen
            ):  # every take of such a shard: a narrower selection never replaces what a wider one wrote
                shards.setdefault((take.source["dataset"], take.source["shard"]), []).append(take)
        units: list[Unit] = []
        for (dataset, shard), takes in sorted(shards.items()):
            inputs = [[t.source["content_hash"], t.target["content_hash"], t.factor] for t in takes]
            name = unit_id(self.name, [shard, *inputs], self.annotator.fingerprint(), CODE)
            size, label = sum(int(t.source["bytes"] or 0) for t in takes), f"{len(takes)} takes of {dataset}/{shard}"
            units.append(Unit(name, self.name, dataset, label, takes, size, len({t.source["episode_id"] for t in takes})))
        return units

    def work(self, unit: Unit) -> Output:
        """Judge the takes of one shard; a picture that cannot be decoded is a reject."""
        takes: list[Take] = unit.payload
        base = open_shard(self.lake, unit.dataset, takes[0].source["shard"])
        found, rejects = dict[tuple[str, str], list[Row]](), list[Reject]()
        for take in takes:
            try:
                for camera, rows in self._judged(base, take):
                    found.setdefault((take.source["episode_id"], camera), []).extend(rows)
            except CorruptMediaError as error:
                rejects.append(Reject.of(error, take.target["episode_id"], error.uri))
        table = self._table(base, found)
        target = self.lake.annotation(NAME, self.annotator.fingerprint(), base.shard)
        with temporary_for(self.lake, target) as path:
            pq.write_table(table, path, compression="zstd")
            file = publish(self.lake, path, target)
        valid = int(np.sum(table.column("valid").to_numpy()))
        row = {
            "annotator": NAME, "fingerprint": self.annotator.fingerprint(), "shard": base.shard, "dataset": unit.dataset, "uri": file.path,
            "blake3": file.blake3, "rows": table.num_rows, "valid_rows": valid, "episodes": len({e for e, _ in found}), "coverage": 0.0,
            "bytes": file.bytes, "config": json.dumps({"version": CODE, **self.annotator.settings()}, sort_keys=True),
        }  # fmt: skip
        tables = {"annotations": pa.Table.from_pylist([row])}
        return Output((file,), tables, tuple(rejects), table.num_rows, 2 * table.num_rows, file.bytes)

    def _judged(self, base: Shard, take: Take) -> list[tuple[str, list[Row]]]:
        other = open_shard(self.lake, take.target["dataset"], take.target["shard"])
        cameras = [c.name for c in self.annotator.cameras(base.contract) if c.name in other.cameras(take.target["episode_id"])]
        return [(c, self._rows(base, other, take, c)) for c in cameras if c in base.cameras(take.source["episode_id"])]

    def _rows(self, base: Shard, other: Shard, take: Take, camera: str) -> list[Row]:
        steps, theirs = (s.episode_steps(t["episode_id"]) for s, t in ((base, take.source), (other, take.target)))
        count = min(steps.num_rows, theirs.num_rows)
        moments = spread(count - 1, MOMENTS) if take.rerendered and count > 1 else np.zeros(1, np.int64)
        pictures, shown = zip(
            *(_pictures(s, t["episode_id"], camera, moments) for s, t in ((base, take.source), (other, take.target))), strict=True
        )
        # a simulator's camera does not adapt to light, so that another brightness is another light
        config, kept = replace(self.annotator.config, most_gain=LEAST_GAIN), list[Kept]()
        for n, step in enumerate(moments.tolist()):
            row = Row(
                step, step + 1, candidate="counterfactual", prompt=take.prompt, source_ns=int(shown[0][n]), target_ns=int(shown[1][n]),
                target_episode=take.target["episode_id"], factor=take.factor,
            )  # fmt: skip
            pair = Pair(pictures[0][n], pictures[1][n], take.prompt, kind=take.kind)
            kept.append(with_verdict(row, judge(Evidence(pair, config))))
        rows = [k.row for k in kept]
        positives = [r for r in rows if r.label == "positive"]
        for row in positives if self.annotator.config.negatives else ():
            rows += negatives_of(row, positives, self.annotator.config, take.source["episode_id"], take.factor)
        return rows

    def _table(self, base: Shard, found: Mapping[tuple[str, str], list[Row]]) -> pa.Table:
        """Lay the rows out by episode in shard order, then by step."""
        batch, place = Batch(base.contract, base.steps), {e: n for n, e in enumerate(base.episode_ids)}
        flat = [(place[e], row.first, camera, row) for (e, camera), rows in found.items() for row in rows]
        flat.sort(key=lambda item: item[:3])
        rows, start = [row for *_, row in flat], np.array([batch.starts[at] for at, *_ in flat], np.int64)
        first, stop = (start + np.array([getattr(r, n) for r in rows], np.int64) for n in ("first", "stop"))
        cameras = pa.array([c for *_, c, _ in flat], pa.string()).dictionary_encode() if flat else constant("", 0)
        sure = pa.array([r.confidence for r in rows], pa.float32())
        return span_table(
            self.annotator, batch, first, stop, [r.reason for r in rows], columns_of(rows), camera=cameras, confidence=sure
        )


def judge_counterfactuals(rows: pl.DataFrame, takes: Sequence[Take]) -> tuple[QualityReport, ...]:
    """Precision and recall of the filters against what the simulator was told to change, with recall by kind of edit.

    Args:
        rows: of the side tables, as `pipelines.annotations.read_annotations` gives them.
        takes: of the same episodes.
    """
    truth = {(t.source["episode_id"], t.target["episode_id"]): t for t in takes}
    candidates = rows.filter(pl.col("label").is_null() | pl.col("label").is_in(["positive", "arm_only"]))
    judged = [
        (truth[key], r) for r in candidates.iter_rows(named=True) if (key := (r["episode_id"], r["target_episode"])) in truth
    ]
    if not judged:
        return not_measurable("counterfactual_precision", "no scene was recorded twice"), not_measurable(
            "counterfactual_recall", "the same"
        )
    single, taken = np.array([t.single for t, _ in judged]), np.array([r["label"] == "positive" for _, r in judged])
    scenes = {e: n for n, e in enumerate(dict.fromkeys(t.source["episode_id"] for t, _ in judged))}
    where = [scenes[t.source["episode_id"]] for t, _ in judged]

    def share(hits: np.ndarray, of: np.ndarray) -> tuple[float, tuple[float, float] | None]:
        return ratio(*(np.bincount(where, x.astype(np.float64), len(scenes)).astype(np.float64) for x in (hits & of, of)))

    by: dict[str, dict[str, Any]] = {}
    for factor in sorted({t.factor for t, _ in judged}):
        here = np.array([t.factor == factor for t, _ in judged])
        reasons = Counter(r["reason"] or r["label"] for t, r in judged if t.factor == factor)
        by[factor] = {
            "of": int(here.sum()),
            "single": int((here & single).sum()),
            "accepted": int((here & taken).sum()),
            "verdicts": dict(reasons),
        }
    every, gt = float(single.mean()), "the factor the simulator was told to change"
    precision, ci = share(single, taken) if taken.any() else (float("nan"), None)
    recall, ci2 = share(taken, single) if single.any() else (float("nan"), None)
    return (
        QualityReport(
            "counterfactual_precision", known(precision), ci, len(scenes), int(taken.sum()), "all", {"every_pair": every},
            verdict(precision >= PRECISION and precision > every), gt, f"at least {PRECISION}, and above taking every pair", {"by_factor": by},
        ),
        QualityReport(
            "counterfactual_recall", known(recall), ci2, len(scenes), int(single.sum()), "all", {"at_random_same_count": float(taken.mean())},
            verdict(recall > float(taken.mean())), gt, "reported by factor; above taking as many at random", {"by_factor": by},
        ),
    )  # fmt: skip


def _pictures(shard: Shard, episode: str, camera: str, steps: Any) -> tuple[list[Any], list[int]]:
    """Return what a camera shows at some steps, and when each picture is shown."""
    seen = shard.episode_steps(episode).column(f"frame.{camera}").to_numpy()[steps]
    frames = np.maximum(seen, 0)
    track = shard.track(episode, camera)
    return list(shard.read(episode, camera, frames)), track.pts_ns[frames].tolist()
