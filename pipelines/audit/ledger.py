"""The ledger of audits: one row per measurement, appended and never changed; the same measurement twice is one row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from catalog.tables import Catalog
from schemas.ids import short_id


@dataclass(frozen=True, slots=True)
class Finding:
    """One measurement on one subject.

    Attributes:
        metric: what was measured.
        value: the number; None where it cannot be measured here.
        ci95: interval, where there is one.
        n: how many independent pieces it rests on (components or episodes, not frames).
        verdict: `ok`, `warn`, `fail` or `not-measurable`.
        sentence: the finding in words.
        detail: further JSON-ready numbers.
        seed: of everything random in it.
    """

    metric: str
    value: float | None
    ci95: tuple[float, float] | None
    n: int
    verdict: str
    sentence: str
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 0


def record(lake: Lake, subject: str, content: str, fingerprint: str, findings: Sequence[Finding]) -> int:
    """Append findings about `subject` (a mixture or query, whose content hash is `content`); return how many were new.

    A metric with the same fingerprint on the same content was measured before and is left as it is.
    """
    catalog = Catalog(lake)
    known = catalog.scan("audits").filter((pl.col("content") == content) & (pl.col("fingerprint") == fingerprint))
    seen = set(known.select("metric").collect()["metric"].to_list())
    fresh = [f for f in findings if f.metric not in seen]
    if fresh:
        rows = [_row(subject, content, fingerprint, f) for f in fresh]
        catalog.append("audits", pa.Table.from_pylist(rows), short_id("audit", [content, fingerprint, [f.metric for f in fresh]]))
    return len(fresh)


def read(lake: Lake, subject: str | None = None) -> pl.DataFrame:
    """Return every row of the ledger, oldest first, of one subject or of all."""
    rows = Catalog(lake).scan("audits").sort("committed_ns", "metric")
    return (rows if subject is None else rows.filter(pl.col("subject") == subject)).collect()


def _row(subject: str, content: str, fingerprint: str, finding: Finding) -> dict[str, Any]:
    low, high = finding.ci95 or (None, None)
    return {
        "subject": subject, "content": content, "metric": finding.metric, "fingerprint": fingerprint, "value": finding.value,
        "low": low, "high": high, "n": finding.n, "seed": finding.seed, "verdict": finding.verdict, "sentence": finding.sentence,
        "detail": json.dumps(dict(finding.detail), sort_keys=True),
    }  # fmt: skip
