"""Can questions be answered without looking? A learner that sees only questions, choices and places, judged on episodes it has not seen."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from annotators.evaluation import folds
from transforms.rotation import F64


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as a blind learner sees it, and the place of its answer."""

    episode: str
    question: str
    choices: tuple[str, ...]
    place: int


def blind_hits(asked: list[Asked]) -> tuple[F64, F64]:
    """Return for every question whether a blind guess hits (ties share), and what chance gives: float64[N] both.

    The guess is the choice that was right most often, of the times it was offered with this question, plus the habit of its place;
    both learnt on the other folds of episodes.
    """
    episodes = sorted({a.episode for a in asked})
    fold = dict(zip(episodes, folds(episodes).tolist(), strict=True))
    hits, chance = np.zeros(len(asked)), np.array([1 / len(a.choices) for a in asked])
    for part in sorted(set(fold.values())):
        learnt = _learn([a for a in asked if fold[a.episode] != part])
        for n, one in enumerate(asked):
            if fold[one.episode] == part:
                score = np.round([_score(learnt, one, p) for p in range(len(one.choices))], 9)
                best = np.flatnonzero(score == score.max())
                hits[n] = float(one.place in best) / len(best)
    return hits, chance


def within_hits(asked: list[Asked]) -> F64:
    """Return what the best blind guesser of all would hit, who knows how often each choice is right in this very episode: float64[N]."""
    right, offered = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for a in asked:
        right[a.episode, a.question, a.choices[a.place]] += 1
        offered.update((a.episode, a.question, c) for c in a.choices)
    hits = np.zeros(len(asked))
    for n, a in enumerate(asked):
        score = np.array([right[a.episode, a.question, c] / offered[a.episode, a.question, c] for c in a.choices])
        best = np.flatnonzero(score == score.max())
        hits[n] = float(a.place in best) / len(best)
    return hits


def place_p_value(asked: list[Asked]) -> float:
    """Return the p-value of the chi-square test that right answers sit at every place equally often, over all numbers of choices."""
    from scipy.stats import chi2

    statistic, freedom = 0.0, 0
    for count in sorted({len(a.choices) for a in asked}):
        seen = np.bincount([a.place for a in asked if len(a.choices) == count], minlength=count)
        expected = seen.sum() / count
        statistic += float(((seen - expected) ** 2 / expected).sum())
        freedom += count - 1
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def _learn(asked: list[Asked]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], Counter[tuple[int, int]]]:
    right, offered, places = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[int, int]]()
    for a in asked:
        right[a.question, a.choices[a.place]] += 1
        offered.update((a.question, c) for c in a.choices)
        places[len(a.choices), a.place] += 1
    return right, offered, places


def _score(
    learnt: tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], Counter[tuple[int, int]]], one: Asked, place: int
) -> float:
    right, offered, places = learnt
    key, count = (one.question, one.choices[place]), len(one.choices)
    total = sum(places[count, p] for p in range(count))
    return (right[key] + 1) / (offered[key] + count) + (places[count, place] + 1) / (total + count)
