"""Which split every exported episode belongs to, decided once for all formats.

`mixture`: as the pinned mixture holds episodes out. `source`: as the source split them. `hash`: whole split groups (scene, operator,
source video) by hash. `auto` takes the first of these that says anything; `none` makes everything `train`.
"""

import json
from collections.abc import Collection, Iterable
from typing import Literal

import polars as pl

from schemas.errors import UsageError
from schemas.ids import digest

TRAIN, VAL = "train", "val"
ORDER = (TRAIN, VAL, "test")  # in which splits are written; others follow by name
SplitMode = Literal["auto", "mixture", "source", "hash", "none"]
MODES: tuple[SplitMode, ...] = ("auto", "mixture", "source", "hash", "none")
_RANGE = 16**12


def assign(
    rows: pl.DataFrame, mode: SplitMode, share: float, held_out: Collection[str] | None, *, always_val: bool
) -> dict[str, str]:
    """Return the split of every episode.

    Args:
        rows: of the catalog's `episodes`.
        mode: who decides, see above.
        share: expected share of groups in `val` where the hash decides.
        held_out: the mixture's held-out episodes; None where no mixture is exported.
        always_val: whether `auto` falls back to the hash (formats whose loaders want a `val` split) or to one `train` split.

    Raises:
        UsageError: the mode is unknown, or nothing says what it asks for.
    """
    ids: list[str] = rows["episode_id"].to_list()
    if mode not in MODES:
        raise UsageError(f"split {mode!r} is unknown; use one of {', '.join(MODES)}")
    if mode == "mixture" and held_out is None:
        raise UsageError("--split mixture needs a mixture to export; this is a dataset or a query")
    if held_out is not None and (mode == "mixture" or (mode == "auto" and held_out)):
        return {name: VAL if name in held_out else TRAIN for name in ids}
    declared = dict(zip(ids, map(_declared, rows["attributes"].to_list()), strict=True))
    if mode == "source" and None in declared.values():
        raise UsageError("--split source: the source does not say which split its episodes belong to; use --split hash")
    if mode == "source" or (mode == "auto" and all(declared.values())):
        return {name: split or TRAIN for name, split in declared.items()}
    if mode == "none" or (mode == "auto" and not always_val):
        return dict.fromkeys(ids, TRAIN)
    groups = dict(zip(ids, rows["split_group"].fill_null(rows["episode_id"]).to_list(), strict=True))
    val = val_groups(groups.values(), share)
    return {name: VAL if group in val else TRAIN for name, group in groups.items()}


def split_order(split: str) -> tuple[int, str]:
    """Return the sort key of a split: train, val, test, then by name."""
    return (ORDER.index(split) if split in ORDER else len(ORDER), split)


def split_names(found: Iterable[str]) -> list[str]:
    """Return the splits of an export in the order they are written, each once; loaders expect `train` and `val`, even empty."""
    return sorted({TRAIN, VAL, *found}, key=split_order)


def _declared(attributes: str | None) -> str | None:
    found = json.loads(attributes).get("split") if attributes else None
    return found if isinstance(found, str) and found else None


def val_groups(groups: Iterable[str], share: float) -> set[str]:
    """Choose the split groups of `val`.

    A group's place depends on its name alone, so adding groups to a large dataset moves none. A small one is kept from bad luck: of
    two groups or more, at least one goes to val (unless `share` is zero), and never more than twice the share asked for.

    Args:
        groups: names, repeats allowed.
        share: in `[0, 1)`, the expected share of groups.

    Raises:
        UsageError: `share` is outside its range.
    """
    if not 0 <= share < 1:
        raise UsageError(f"val_share {share} is impossible; give the share of split groups that go to val, from 0 to below 1")
    places = sorted((int(digest(["rlds-val", group])[:12], 16) / _RANGE, group) for group in set(groups))
    if share == 0 or len(places) < 2:
        return set()
    count = sum(place < share for place, _ in places)
    most = min(round(2 * share * len(places)), len(places) - 1)
    return {group for _, group in places[: max(min(count, most), 1)]}
