"""Do the eyes rest on what is used next, more than chance has it, and before the hand is there?"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, not_measurable, ratio, verdict
from annotators.gaze.acts import Act, acts_of
from annotators.gaze.rests import Rest, rests_of
from annotators.gaze.samples import read_samples
from annotators.gaze.source import GazeSource
from annotators.gaze.things import Things
from transforms.grid import SECOND
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.gaze.chain import GazeChain

NEXT, LEAD = "gaze_object_is_used_next", "gaze_lead_s"
METRICS = (NEXT, LEAD)
TIMES = 2.0  # gaze upside down is a little better than chance where things lie evenly above and below the middle
CENTRE = np.array([0.5, 0.5])


def evaluate_chain(annotator: "GazeChain", batch: Batch) -> tuple[QualityReport, ...]:
    """Measure both."""
    source = annotator.usable(batch.contract)
    if isinstance(source, str) or not batch.episodes:
        return tuple(not_measurable(m, source if isinstance(source, str) else "no episodes") for m in METRICS)
    rests = [rests_of(batch, e, read_samples(batch, e, source, annotator.config.gaze)) for e in range(len(batch.episodes))]
    things = [annotator.things(batch, e, source) for e in range(len(batch.episodes))]
    acts = acts_of(batch)
    if all(isinstance(t, str) for t in things) or not any(a.touches for mine in acts for a in mine):
        why = "no masks of things" if all(isinstance(t, str) for t in things) else "nobody says what is done with which thing"
        return tuple(not_measurable(m, why) for m in METRICS)
    return _next(annotator, rests, things, acts), _lead(annotator, batch, source, rests, things, acts)


def _next(annotator: "GazeChain", rests: list[list[Rest]], things: list[Things | str], acts: list[list[Act]]) -> QualityReport:
    """Count how often the thing under a fixation is the next one used; the same with gaze from other times, and with the centre."""
    count = len(rests)
    wrong = {
        "other_time": [_shuffled(r) for r in rests],
        "centre": [[replace(one, xy=CENTRE) for one in r] for r in rests],
    }
    hits, asked = _hits(annotator, rests, things, acts)
    value, interval = ratio(hits, asked)
    chance = {name: float(_hits(annotator, r, things, acts)[0].sum() / max(asked.sum(), 1)) for name, r in wrong.items()}
    better = interval is not None and interval[0] > max(chance.values()) and value >= TIMES * max(chance.values())
    return QualityReport(
        NEXT, value, interval, count, int(asked.sum()), "all", chance, verdict(better), "acts that name a thing",
        f"the interval lies above gaze from other times and the centre, and the value is {TIMES:g} times as high",
    )  # fmt: skip


def _hits(annotator: "GazeChain", rests: list[list[Rest]], things: list[Things | str], acts: list[list[Act]]) -> tuple[F64, F64]:
    """Return per episode how many fixations rest on the thing of the next act, and how many have one: float64[E] each."""
    hits, asked = np.zeros(len(rests)), np.zeros(len(rests))
    for e, (mine, seen, done) in enumerate(zip(rests, things, acts, strict=True)):
        if isinstance(seen, str):
            continue
        for rest in mine:
            upcoming = _upcoming(rest, done, annotator.config.most_s)
            names = {n for n, _ in seen.at(rest.start_ns)}
            if upcoming is None or not any(upcoming.concerns(n) for n in names):
                continue
            link = annotator.link(rest, seen, [])
            asked[e] += 1
            hits[e] += upcoming.concerns(link.thing)
    return hits, asked


def _upcoming(rest: Rest, acts: list[Act], most_s: float) -> Act | None:
    soon = rest.start_ns + round(most_s * SECOND)
    return next((a for a in acts if a.touches and rest.start_ns <= a.start_ns <= soon), None)


def _shuffled(rests: list[Rest]) -> list[Rest]:
    """Return the fixations with each other's places, by half of them round."""
    half = max(len(rests) // 2, 1)
    return [replace(r, xy=rests[(at + half) % len(rests)].xy) for at, r in enumerate(rests)]


def _lead(
    annotator: "GazeChain", batch: Batch, source: GazeSource, rests: list[list[Rest]], things: list[Things | str], acts: list[list[Act]]
) -> QualityReport:  # fmt: skip
    """Measure from the first look at a thing since the last act to the act on it: it may be negative, when the hand was first."""
    real = _leads(annotator, rests, things, acts)
    other = _leads(annotator, [_shuffled(r) for r in rests], things, acts)
    values = np.concatenate([*real, np.empty(0)])
    if not len(values):
        return not_measurable(
            LEAD, f"no act on a thing that was looked at, in {len(batch.episodes)} episodes of {source.stream.name}"
        )

    def median(draws: F64) -> F64:
        return np.array([_weighted_median(real, row) for row in draws])

    interval = bootstrap(median, len(real))
    chance = np.concatenate([*other, np.empty(0)])
    better = interval is not None and interval[0] > 0
    return QualityReport(
        LEAD, float(np.median(values)), interval, len(real), len(values), "all",
        {"other_time": float(np.median(chance)) if len(chance) else 0.0}, verdict(better), "acts that name a thing",
        "the interval lies above 0", {"share_positive": float((values > 0).mean())},
    )  # fmt: skip


def _leads(annotator: "GazeChain", rests: list[list[Rest]], things: list[Things | str], acts: list[list[Act]]) -> list[F64]:
    found: list[F64] = []
    for mine, seen, done in zip(rests, things, acts, strict=True):
        leads: list[float] = []
        touching = [] if isinstance(seen, str) else [a for a in done if a.touches and a.words]
        links = [] if isinstance(seen, str) else [annotator.link(r, seen, []) for r in mine]
        before = -(1 << 62)
        for act in touching:
            looks = [k.rest.start_ns for k in links if before < k.rest.start_ns < act.end_ns and act.concerns(k.thing)]
            if looks:
                leads.append((act.start_ns - looks[0]) / SECOND)
            before = act.start_ns
        found.append(np.array(leads, np.float64))
    return found


def _weighted_median(parts: list[F64], draws: F64) -> float:
    drawn = np.concatenate([np.repeat(p, int(n)) for p, n in zip(parts, draws, strict=True)] + [np.empty(0)])
    return float(np.median(drawn)) if len(drawn) else float("nan")
