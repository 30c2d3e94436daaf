"""Weights that give corrections a share of what is trained on: spans in `scores`, which a mixture multiplies by (`[[weights]]`)."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.attempts.stage import read_attempts
from pipelines.shards.reader import open_shard
from schemas.errors import UsageError
from schemas.ids import digest, short_id
from transforms.grid import runs

METHOD = "correction_share"
CODE = "1"  # raise when the weights of the same attempts change
CORRECTING = ("intervention", "correction")


@dataclass(frozen=True, slots=True)
class CorrectionShare:
    """What was weighed: steps inside corrections and outside, the share they have by themselves, and the score's fingerprint."""

    inside: int
    outside: int
    natural: float
    fingerprint: str


def weigh_corrections(lake: Lake, source: str, share: float) -> CorrectionShare:
    """Write log weights under which the steps of corrections are `share` of an epoch, over the episodes of the attempts called `source`.

    Raises:
        UsageError: `share` is not inside 0..1, there are no such attempts, or they do not both hold corrections and leave something out.
    """
    if not 0 < share < 1:
        raise UsageError(f"share={share} must lie between 0 and 1")
    nodes = read_attempts(lake, source)
    held = [r for r in nodes.select(["episode_id", "start_ns", "end_ns", "kind"]).to_pylist() if r["episode_id"]]
    spans = [(*s, i) for s, i in _spans(lake, held)]
    inside, outside = (sum(n for *_, n, own in spans if own is side) for side in (True, False))
    if not inside or not outside:
        raise UsageError(
            f"attempts {source!r}: {inside} recorded steps are corrections and {outside} are not; a share needs some of both. "
            "`cotrain attempts add --from interventions` reads recorded ones"
        )
    total = inside + outside
    weight = {True: math.log(share * total / inside), False: math.log((1 - share) * total / outside)}
    fingerprint = short_id("fp", [METHOD, source, share, CODE])
    rows = pl.DataFrame(
        [
            {"episode_id": e, "start_ns": a, "end_ns": b, "value": weight[own], "method": METHOD, "fingerprint": fingerprint,
             "detail": json.dumps({"attempts": source, "share": share})}
            for e, a, b, _, own in spans
        ]
    )  # fmt: skip
    unit = short_id("weigh", [fingerprint, digest(sorted(nodes.column("node").to_pylist()))])
    Catalog(lake).append("scores", rows.to_arrow(), unit)
    return CorrectionShare(inside, outside, inside / total, fingerprint)


def _spans(lake: Lake, held: list[dict[str, Any]]) -> list[tuple[tuple[str, int, int, int], bool]]:
    """Return `((episode, start, end, steps), is a correction)`: every step of every episode, in runs."""
    episodes = Catalog(lake).latest("episodes").select("episode_id", "dataset", "shard").collect()
    names = sorted({r["episode_id"] for r in held})
    where = {e: (d, s) for e, d, s in episodes.filter(pl.col("episode_id").is_in(names)).iter_rows()}
    found = list[tuple[tuple[str, int, int, int], bool]]()
    for name in names:
        t = open_shard(lake, *where[name]).episode_steps(name).column("t_ns").to_numpy()
        mine = [r for r in held if r["episode_id"] == name and r["kind"] in CORRECTING]
        corrected = np.zeros(len(t), bool)
        for row in mine:
            corrected |= (t >= row["start_ns"]) & (t < row["end_ns"])
        found += [((name, a, b, n), own) for a, b, n, own in _runs(t, corrected)]
    return found


def _runs(t_ns: npt.NDArray[np.int64], corrected: npt.NDArray[np.bool_]) -> list[tuple[int, int, int, bool]]:
    begins = np.concatenate([[True], corrected[1:] != corrected[:-1]])
    return [
        (int(t_ns[a]), int(t_ns[a + n]) if a + n < len(t_ns) else int(t_ns[-1]) + 1, n, bool(corrected[a]))
        for a, n in zip(*(x.tolist() for x in runs(begins)), strict=True)
    ]
