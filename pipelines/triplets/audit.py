"""A page for a person to audit: accepted pairs drawn by hash, each with what changed and what is said, and the count with its interval."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.ids import digest

MOST = 100


def drawn(rows: Sequence[Mapping[str, Any]], count: int = MOST) -> list[Mapping[str, Any]]:
    """Return at most `count` rows, chosen and ordered by the hash of their ids: random, and the same ones every time."""
    return sorted(rows, key=lambda row: digest(["audit", row["id"]]))[:count]


def audit_page(name: str, rows: Sequence[Mapping[str, Any]], accepted: int) -> str:
    """Return the page.

    Args:
        name: of the dataset.
        rows: of `pipelines.triplets.tables.PAIRS`.
        accepted: how many pairs they were drawn from.
    """
    from pipelines.report.html import template

    shown = [
        {
            "id": row["id"], "prompt": row["prompt"], "kind": row["edit_kind"], "candidate": row["candidate"], "confidence": row["confidence"],
            "source": _inline("jpeg", row["source"]["bytes"]), "target": _inline("jpeg", row["target"]["bytes"]),
            "mask": _inline("png", row["mask"]["bytes"]) if row["mask"] else "", "where": _where(row),
        }
        for row in rows
    ]  # fmt: skip
    return template("triplets.html.j2").render(name=name, pairs=shown, accepted=accepted)


def _inline(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _where(row: Mapping[str, Any]) -> str:
    ends = [row["source_ref"], row["target_ref"]]
    times = " to ".join(f"{end['t_ns'] / 1e9:.2f} s" for end in ends)
    other = "" if ends[0]["episode"] == ends[1]["episode"] else f" and {ends[1]['episode']}"
    return f"{ends[0]['episode']}{other}, {ends[0]['camera']}, {times}"
