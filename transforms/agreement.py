"""How far two annotators of the same items agree beyond chance."""

from collections.abc import Hashable, Sequence

from schemas.errors import UsageError


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return Cohen's kappa of two annotators' answers to the same items, in order; 1 where both always gave one and the same answer.

    Raises:
        UsageError: there are no items, or not as many answers from each.
    """
    from sklearn.metrics import cohen_kappa_score

    if not first or len(first) != len(second):
        raise UsageError(f"{len(first)} and {len(second)} answers; both annotators must answer the same items, at least one")
    number = {answer: n for n, answer in enumerate(dict.fromkeys([*first, *second]))}
    if len(number) == 1:
        return 1.0
    return float(cohen_kappa_score([number[a] for a in first], [number[b] for b in second]))
