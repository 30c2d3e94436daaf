"""Factor protocols: named values, a range, or compositions of two factors that training never sees; for tests out of distribution."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from schemas.errors import CoverageError, UsageError
from schemas.split import TRAIN, FactorSpec

SEVERAL = "ood_test.several"


@dataclass(frozen=True, slots=True)
class FactorSplit:
    """Which episodes are held out: their split, and why, by id. `factors` are checked once everything is assigned."""

    split: dict[str, str]
    why: dict[str, str]
    factors: tuple[FactorSpec, ...]

    def check(self, rows: pl.DataFrame, split: Mapping[str, str]) -> None:
        """Check that training sees what a protocol promises.

        Raises:
            CoverageError: nothing is left to train on, a test is empty, or a composition's margin is never seen.
        """
        if not self.factors:
            return
        trained = [row for row in rows.iter_rows(named=True) if split[row["episode_id"]] == TRAIN]
        if not trained:
            raise CoverageError("the factors hold out every episode, or all that share a key with one; hold out less")
        for spec in self.factors:
            if spec.split not in set(split.values()):
                raise CoverageError(f"factor {spec.factor}: nothing is held out in {spec.split}; check the values in hold")
            for factor, wanted in _margins(spec):
                seen = {value_of(row, factor) for row in trained}
                if missing := [v for v in wanted if v not in seen]:
                    raise CoverageError(
                        f"factor {factor}: training never sees {missing[0]!r}, so {spec.split} is not a new composition but a new value"
                    )


def hold_out(rows: pl.DataFrame, factors: Sequence[FactorSpec]) -> FactorSplit:
    """Find what each factor holds out; an episode that several hold out is in a split of its own, as it differs in more than one way.

    Raises:
        UsageError: no episode has a factor, or a range is asked of something that is no number.
    """
    split, why = dict[str, str](), dict[str, str]()
    for spec in factors:
        for episode, said in _held(rows, spec):
            again = episode in split
            split[episode] = SEVERAL if again else spec.split
            why[episode] = f"{why[episode]}; {said}" if again else said
    return FactorSplit(split, why, tuple(factors))


def value_of(row: Mapping[str, Any], key: str) -> Any:
    """Return a column of `episodes`, or an attribute by its dotted path; None where there is none."""
    if key in row:
        return row[key]
    value: Any = json.loads(row.get("attributes") or "{}")
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _held(rows: pl.DataFrame, spec: FactorSpec) -> list[tuple[str, str]]:
    values = [(row["episode_id"], value_of(row, spec.factor)) for row in rows.iter_rows(named=True)]
    if all(v is None for _, v in values):
        raise UsageError(f"factor {spec.factor}: no chosen episode has it; name a column of episodes or an attribute, dotted")
    if spec.protocol == "values":
        return [(e, f"{spec.factor} = {v!r}") for e, v in values if v in spec.hold]
    if spec.protocol == "range":
        limit = _limit(spec, [v for _, v in values if v is not None])
        return [(e, f"{spec.factor} = {v:.4g}, above {limit:.4g}") for e, v in values if v is not None and v > limit]
    pairs = {tuple(p) for p in spec.hold}
    second = {row["episode_id"]: value_of(row, spec.second) for row in rows.iter_rows(named=True)}
    return [(e, f"{spec.factor} = {v!r} with {spec.second} = {second[e]!r}") for e, v in values if (v, second[e]) in pairs]


def _limit(spec: FactorSpec, values: list[Any]) -> float:
    if wrong := [v for v in values if isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v)]:
        raise UsageError(f"factor {spec.factor}: a range needs numbers, and some episode has {wrong[0]!r}")
    return float(np.quantile(values, spec.quantile)) if spec.quantile is not None else float(spec.above or 0.0)


def _margins(spec: FactorSpec) -> list[tuple[str, list[Any]]]:
    if spec.protocol != "composition":
        return []
    return [(spec.factor, sorted({p[0] for p in spec.hold}, key=str)), (spec.second, sorted({p[1] for p in spec.hold}, key=str))]
