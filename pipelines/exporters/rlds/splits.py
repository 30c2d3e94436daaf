"""Which episodes go to `val`: whole split groups (scene, operator, source video), chosen by hash, so that nothing leaks."""

from collections.abc import Iterable

from schemas.errors import UsageError
from schemas.ids import digest

TRAIN, VAL = "train", "val"
_RANGE = 16**12


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
