"""How good are texts? One report per claim, each beside what a guesser, a shuffler or a repeater gets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, folds, not_measurable, ratio, verdict
from annotators.text.draft import Draft, pick
from annotators.text.evidence import evidence
from annotators.text.verify.blind import Asked, blind_hits, place_p_value, within_hits
from annotators.text.verify.derive import Truth
from annotators.text.verify.round_trip import read_code
from transforms.agreement import cohen_kappa
from transforms.language.paraphrases import GRID
from transforms.language.sequences import Act, ed_at_z, mine, violations
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.text.text import Text

Judged = Sequence[Sequence[Draft]]
_STATE = "state the simulator or the robot recorded"
EPSILON = 0.05
LEAST_ROWS = 40


def evaluate_text(annotator: "Text", batch: Batch) -> tuple[QualityReport, ...]:
    """Report on every kind that was asked for, and on no other."""
    drafts, truth = annotator.drafts(batch), Truth(batch)
    parts = {"qa": questions, "rationale": rationales, "paraphrase": paraphrases, "anticipation": anticipation, "plan": plans}
    reports = [r for kind, measure in parts.items() if kind in annotator.config.kinds for r in measure(batch, drafts)]
    if "qa" in annotator.config.kinds:
        reports.append(agreement(batch, drafts, truth, annotator.config.moved_m))
    if "rationale" in annotator.config.kinds:
        reports.append(action_lift(batch, drafts, truth))
    if "implausible" in annotator.config.kinds:
        reports.append(negatives(annotator, batch, drafts))
    if "goal" in annotator.config.kinds:
        reports.append(goals(batch, drafts))
    return tuple(reports)


def asked_of(batch: Batch, drafts: Judged) -> list[Asked]:
    """Return every valid question as a blind learner sees it."""
    pairs = [(e, d) for e, some in zip(batch.episodes, drafts, strict=True) for d in some if d.kind == "qa" and d.reason is None]
    return [Asked(e, d.question or "", d.choices, d.choices.index(d.answer or "")) for e, d in pairs]


def questions(batch: Batch, drafts: Judged) -> Iterator[QualityReport]:
    """Blind accuracy against chance, places of answers, and answers re-derived from state."""
    asked = asked_of(batch, drafts)
    if not asked:
        yield not_measurable("qa_blind_accuracy", "no question could be asked of these episodes", "at most chance + 0.05")
        return
    hits, chance = blind_hits(asked)
    value, ci = _by_episode(batch, [a.episode for a in asked], hits)
    known = {"chance": float(chance.mean()), "best_within_episode": float(within_hits(asked).mean())}
    worst = max(value, known["best_within_episode"])
    yield QualityReport(
        "qa_blind_accuracy", value, ci, len(batch.episodes), len(asked), "all", known, verdict(worst <= known["chance"] + EPSILON),
        "places of the answers", "at most chance + 0.05", {"questions": len(asked)},
    )  # fmt: skip
    p = place_p_value(asked)
    yield QualityReport(
        "qa_answer_places_p", p, None, len(batch.episodes), len(asked), "all", {"always_first": 0.0}, verdict(p >= 0.01),
        "places of the answers", "chi-square p at least 0.01",
    )  # fmt: skip
    told = [(e, d) for e, some in zip(batch.episodes, drafts, strict=True) for d in some if "derived" in d.verdicts]
    value, ci = _by_episode(batch, [e for e, _ in told], np.array([float(d.verdicts["derived"]) for _, d in told]))
    yield QualityReport(
        "qa_derived", value, ci, len(batch.episodes), len(told), "all", {"chance": known["chance"]}, verdict(value >= 0.95), _STATE,
        "at least .95 before refusal; what is kept is 1 by construction",
    )  # fmt: skip


def rationales(batch: Batch, drafts: Judged) -> Iterator[QualityReport]:
    """Movements read back from the words, beside words given to another row; and independence of the future."""
    told = _of(batch, drafts, "rationale")
    if not told:
        yield not_measurable("rationale_round_trip", "no hand moves toward a known object in these episodes", "at least .98")
        return
    codes = [tuple(d.slots["code"]) for _, d in told]
    read = [read_code(d.text or "") for _, d in told]
    back = np.array([float(r == c) for r, c in zip(read, codes, strict=True)])
    swapped = float(np.mean([codes[n - 1] == c for n, c in enumerate(codes)]))
    value, ci = _by_episode(batch, [e for e, _ in told], back)
    causal = float(np.mean([d.verdicts.get("causal", False) for _, d in told]))
    yield QualityReport(
        "rationale_round_trip", value, ci, len(batch.episodes), len(told), "all", {"another_row": swapped},
        verdict(value >= 0.98 and causal == 1), _STATE, "at least .98, none knowing the future", {"causal": causal},
    )  # fmt: skip


def action_lift(batch: Batch, drafts: Judged, truth: Truth) -> QualityReport:
    """How much better the hand's movement is predicted with the rationale's words beside the state, held out; beside other rows' words."""
    goal = "interval above 0, and not with another row's words"
    told = [(e, d) for e, d in _of(batch, drafts, "rationale") if read_code(d.text or "") is not None]
    if truth.hand is None or len(told) < LEAST_ROWS or len({e for e, _ in told}) < 3:
        why = f"{len(told)} rationales of {len({e for e, _ in told})} episodes; {LEAST_ROWS} of 3 are needed"
        return not_measurable("rationale_lift", why, goal)
    place = {e: int(batch.starts[n]) for n, e in enumerate(batch.episodes)}
    a, b = (np.array([place[e] + step for e, d in told for step in [at(d)]]) for at in (lambda d: d.first, lambda d: d.stop - 1))
    state = np.concatenate([truth.hand[:, a], *(p[:, a] for _, p in sorted(truth.places.items()))]).T
    moved, words = (truth.hand[:, b] - truth.hand[:, a]).T, np.array([read_code(d.text or "") for _, d in told], np.float64)
    names = [e for e, _ in told]
    own, other = evidence(state, words, moved, names), evidence(state, np.roll(words, len(words) // 2, axis=0), moved, names)
    value, ci = _by_episode(batch, names, own.lift)
    control, control_ci = _by_episode(batch, names, other.lift)
    sure, fooled = ci is not None and ci[0] > 0, control_ci is None or control_ci[0] > 0
    return QualityReport(
        "rationale_lift", value, ci, len(set(names)), len(told), "folds of episodes", {"another_row": control}, verdict(sure and not fooled), _STATE,
        goal, {"mse_state_cm2": own.without * 1e4, "mse_with_text_cm2": own.with_text * 1e4, "mse_with_another_row_cm2": other.with_text * 1e4},
    )  # fmt: skip


def agreement(batch: Batch, drafts: Judged, truth: Truth, moved_m: float) -> QualityReport:
    """Cohen's kappa of the answers that segments and scenes gave, and those that raw state gives: two readers who know nothing of each other."""
    rows = [(n, d) for n, some in enumerate(drafts) for d in some if d.kind == "qa" and "derived" in d.verdicts]
    both = [(d, truth.answer(d, int(batch.starts[n]), int(batch.starts[n + 1]), moved_m)) for n, d in rows]
    both = [(d, other) for d, other in both if other is not None and d.answer is not None]
    if not both:
        return not_measurable("qa_kappa", "no question that raw state answers too", "at least .7")
    first, second = [f"{d.template}: {d.answer}" for d, _ in both], [f"{d.template}: {other}" for d, other in both]
    value, mixed = cohen_kappa(first, second), cohen_kappa(first, [*second[1:], second[0]])
    return QualityReport(
        "qa_kappa", value, None, len(batch.episodes), len(both), "all", {"another_row": mixed}, verdict(value >= 0.7), _STATE, "at least .7"
    )  # fmt: skip


def paraphrases(batch: Batch, drafts: Judged) -> Iterator[QualityReport]:
    """Share of the 43 cells with a text that every verifier kept, of tasks that were understood."""
    told = [(e, d) for e, d in _of(batch, drafts, "paraphrase", every=True) if d.cell is not None]
    if not told:
        yield not_measurable("paraphrase_cells", "no task of these episodes is a parsed instruction")
        return
    kept = np.array([float(d.reason is None) for _, d in told])
    value, ci = _by_episode(batch, [e for e, _ in told], kept)
    far = [d.distance[0] for _, d in told if d.reason is None and d.distance is not None]
    yield QualityReport(
        "paraphrase_cells", value, ci, len(batch.episodes), len(told), "all", {"identity_only": 0.0}, verdict(value >= 0.8),
        "task text", f"at least .8 of {len(GRID)} cells", {"pd_mean": float(np.mean(far)) if far else None, "variant": "lexical"},
    )  # fmt: skip


def negatives(annotator: "Text", batch: Batch, drafts: Judged) -> QualityReport:
    """Share of corrupted sequences that break a constraint mined from other episodes, beside shuffled ones and true ones."""
    told = _of(batch, drafts, "implausible")
    if not told:
        return not_measurable("implausible_precision", "no sequence was corrupted; mine constraints with calibrate=true")
    acts = {e: _acts(d.negative_of or "") for e, d in told}
    fold = dict(zip(sorted(acts), folds(sorted(acts), 2).tolist(), strict=True))
    own = annotator.config
    tables = {
        f: mine([a for e, a in acts.items() if fold[e] != f], max(2, own.support // 2), own.confidence)
        for f in set(fold.values())
    }

    def broken(sequence: dict[str, list[Act]]) -> F64:
        return np.array([float(bool(violations(sequence[e], tables[fold[e]]))) for e, _ in told])

    wrong = {e: [(str(a[0]), str(a[1])) for a in d.slots["acts"]] for e, d in told}
    mixed = {e: sorted(a, key=lambda x, e=e: pick(1 << 50, e, "mixed", x)) for e, a in acts.items()}
    value, ci = _by_episode(batch, [e for e, _ in told], broken(wrong))
    known = {"true_sequences": float(broken(acts).mean()), "shuffled": float(broken(mixed).mean())}
    return QualityReport(
        "implausible_precision", value, ci, len(batch.episodes), len(told), "two folds", known,
        verdict(value > known["true_sequences"]), "constraints mined from the other half", "more than true sequences",
    )  # fmt: skip


def anticipation(batch: Batch, drafts: Judged) -> Iterator[QualityReport]:
    """ED@Z of a bigram of acts learnt on other episodes, beside repeating the last act."""
    told = _of(batch, drafts, "anticipation")
    if len(told) < 2:
        yield not_measurable("anticipation_ed", "fewer than two episodes have acts after their observed part")
        return
    pairs = [([tuple(a) for a in d.slots["observed"]], [tuple(a) for a in d.slots["future"]]) for _, d in told]
    scores, lazy = list[float](), list[float]()
    for n, (seen, came) in enumerate(pairs):
        follow = Counter[tuple[object, object]]()
        for m, (a, b) in enumerate(pairs):
            if m != n:
                follow.update(zip((a + b)[:-1], (a + b)[1:], strict=True))
        guess = [seen[-1]]
        for _ in came:
            after = {b: c for (a, b), c in follow.items() if a == guess[-1]}
            guess.append(max(sorted(after), key=after.__getitem__) if after else guess[-1])  # type: ignore[arg-type]
        scores.append(ed_at_z([guess[1:]], came, len(came)))
        lazy.append(ed_at_z([[seen[-1]] * len(came)], came, len(came)))
    value, ci = _by_episode(batch, [e for e, _ in told], np.array(scores))
    known = {"repeat_last": float(np.mean(lazy))}
    yield QualityReport(
        "anticipation_ed", value, ci, len(batch.episodes), len(told), "leave one out", known, verdict(value < known["repeat_last"]),
        "segments", "a bigram beats repetition", {"variant": "ED@Z, one guess"},
    )  # fmt: skip


def plans(batch: Batch, drafts: Judged) -> Iterator[QualityReport]:
    """Share of plan steps that found their segment, in order."""
    told = _of(batch, drafts, "plan", every=True)
    told = [(e, d) for e, d in told if d.text is not None]
    if not told:
        yield not_measurable("plan_aligned", "no task of these episodes could be planned by rule")
        return
    found = np.array([float(np.mean([s is not None for s in d.slots["segments"]])) for _, d in told], np.float64)
    value, ci = _by_episode(batch, [e for e, _ in told], found)
    yield QualityReport(
        "plan_aligned", value, ci, len(batch.episodes), len(told), "all", {"no_segments": 0.0}, verdict(value >= 0.6), "segments",
        "at least .6 of the steps",
    )  # fmt: skip


def goals(batch: Batch, drafts: Judged) -> QualityReport:
    """How evenly goals cover their range: Kolmogorov-Smirnov distance to the uniform."""
    told = [(e, d) for e, d in _of(batch, drafts, "goal") if d.goal is not None]
    if not told:
        return not_measurable("goal_coverage_ks", "no object moved far enough for a goal")
    values = np.sort([d.goal[0] for _, d in told if d.goal is not None])
    steps, share = np.arange(len(values) + 1) / len(values), values / values[-1]
    ks = float(max((steps[1:] - share).max(), (share - steps[:-1]).max()))
    return QualityReport(
        "goal_coverage_ks", ks, None, len(batch.episodes), len(told), "all", {"one_value": 1.0}, verdict(ks < 0.5), _STATE,
        "less than .5",
    )  # fmt: skip


def _of(batch: Batch, drafts: Judged, kind: str, *, every: bool = False) -> list[tuple[str, Draft]]:
    """Drafts of one kind, with their episode; valid ones unless `every`."""
    pairs = [(e, d) for e, some in zip(batch.episodes, drafts, strict=True) for d in some]
    return [(e, d) for e, d in pairs if d.kind == kind and (every or d.reason is None)]


def _acts(text: str) -> list[Act]:
    return [(verb, noun) for part in text.split(", ") for verb, _, noun in [part.partition(" ")]]


def _by_episode(batch: Batch, episodes: list[str], values: F64) -> tuple[float, tuple[float, float] | None]:
    """Mean of values with its interval over episodes."""
    place = {e: n for n, e in enumerate(batch.episodes)}
    at = np.array([place[e] for e in episodes], np.int64)
    total = np.bincount(at, values, len(place)).astype(np.float64)
    return ratio(total, np.bincount(at, minlength=len(place)).astype(np.float64))
