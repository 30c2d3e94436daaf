"""How good are triplets? Against what a simulator knows, by kind of edit, and by what must hold of any data.

Object poses are the truth here, so they are taken from the annotator: what is measured is what pictures tell, with the robot told by
masks, by a calibrated camera or not at all, as the data has it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, known, not_measurable, ratio, verdict
from annotators.triplets import spoil
from annotators.triplets.filters import LEAST_MOVE, judge
from annotators.triplets.pair import Evidence, Pair
from annotators.triplets.truth import Case, cases_of
from annotators.triplets.words import contradicts
from transforms.goals import drawn_unit
from transforms.rotation import F64
from transforms.spread import spread

if TYPE_CHECKING:
    from annotators.triplets.triplets import Triplets

PRECISION, ERROR_PX, REFUSED, SYMMETRY = 0.9, 0.15, 0.95, 0.9
AT_MOST = 60  # pairs that are spoilt
NO_TRUTH = "no simulator recorded where things are (signals or columns named object_pose.<name>)"
NO_PAIRS = "no candidate pair has pictures to look at"
METRICS = ("precision", "recall", "camera_error_px", "twins_refused", "reverse_symmetry", "direction_agreement")
type Verdicts = Callable[[Pair], str | None]


def evaluate_triplets(annotator: "Triplets", batch: Batch, verdicts: Verdicts | None = None) -> tuple[QualityReport, ...]:
    """Return every report of sheet 4.5 that data can give; `verdicts` replaces the filters, to put a twin in their place."""
    silent = replace(annotator, config=replace(annotator.config, poses=False, negatives=False))
    cameras = [c for c in silent.cameras(batch.contract) if c.name in batch.clips]
    cases = [case for camera in cameras for case in cases_of(silent, batch, camera)]
    if not any(c.pair is not None for c in cases):
        return tuple(not_measurable(m, NO_PAIRS) for m in METRICS)

    def filters(pair: Pair) -> str | None:
        return judge(Evidence(pair, silent.config)).reason

    look = verdicts or filters
    accepted = np.array([c.pair is not None and (c.accepted if verdicts is None else look(c.pair) is None) for c in cases], bool)
    episodes = len(batch.episodes)
    return (
        *against_truth(cases, accepted, episodes),
        camera_error(cases, episodes),
        twins_refused(cases, accepted, look, episodes),
        reverse_symmetry(cases, accepted, look, episodes),
        directions(cases, accepted, episodes),
    )


def against_truth(cases: Sequence[Case], accepted: np.ndarray, episodes: int) -> tuple[QualityReport, QualityReport]:
    """Precision and recall of "exactly one thing moved"; the baselines take every pair, and all whose change has a fitting area."""
    goals = (f"at least {PRECISION}, and above taking every pair", "reported by kind; above none")
    single = np.array([c.single for c in cases], bool)
    if not any(c.moved for c in cases):
        return not_measurable("precision", NO_TRUTH, goals[0]), not_measurable("recall", NO_TRUTH, goals[1])
    fits = np.array([_area_fits(c) for c in cases], bool)
    seen = np.array([c.pair is not None for c in cases], bool)
    precise = {"every_pair": _share(single, seen), "fitting_area": _share(single, seen & fits)}
    value, ci = ratio(*_per_episode(cases, single & accepted, accepted, episodes))
    reasons = Counter(c.judged.reason or "accepted" if c.judged else "robot_unknown" for c in cases)
    causes = Counter(
        ("several_moved" if c.moved > 1 else "nothing_moved") for c, a in zip(cases, accepted, strict=True) if a and not c.single
    )
    kinds = {
        kind: {"accepted": int((accepted & here).sum()), "of": int(here.sum()), "recall": _share(accepted, here)}
        for kind in sorted({c.kind for c in cases if c.kind})
        for here in [np.array([c.kind == kind for c in cases], bool)]
    }
    detail: dict[str, Any] = {"verdicts": dict(reasons), "false_accepts": dict(causes), "accepted": int(accepted.sum())}
    first = QualityReport(
        "precision", known(value), ci, episodes, int(accepted.sum()), "all", precise, verdict(value >= PRECISION and value > precise["every_pair"]),
        "object poses of the simulator", goals[0], detail,
    )  # fmt: skip
    recall, ci = ratio(*_per_episode(cases, single & accepted, single, episodes))
    base = {"at_random_same_count": float(accepted.mean())}
    second = QualityReport(
        "recall", known(recall), ci, episodes, int(single.sum()), "all", base, verdict(recall > 0), "object poses of the simulator", goals[1],
        {"by_kind": kinds},
    )  # fmt: skip
    return first, second


def camera_error(cases: Sequence[Case], episodes: int) -> QualityReport:
    """Median error of the camera's estimated motion, when the data's own pictures are shifted by 0 to 4 pixels: the worst of the shifts."""
    chosen = [c for c in _some(cases) if c.pair is not None]
    found = [spoil.camera_errors(c.pair, n) for n, c in enumerate(chosen) if c.pair is not None]
    own, plain = (np.stack([pair[k] for pair in found]) for k in (0, 1))
    medians = np.median(own, 0)
    worst = int(np.argmax(medians))
    values = own[:, worst]
    spread_of = np.percentile(_resampled(values), [2.5, 97.5])
    detail = {"median_px": dict(zip(map(str, spoil.SHIFTS), medians.tolist(), strict=True))}
    detail["p90_px"] = dict(zip(map(str, spoil.SHIFTS), np.percentile(own, 90, axis=0).tolist(), strict=True))
    return QualityReport(
        "camera_error_px", float(medians[worst]), (float(spread_of[0]), float(spread_of[1])), episodes, len(chosen), "all",
        {"median_of_all_flow": float(np.median(plain, 0).max())}, verdict(float(medians[worst]) < ERROR_PX),
        "this data's pictures, shifted by known parts of pixels", f"under {ERROR_PX} px at up to 4 px", detail,
    )  # fmt: skip


def twins_refused(cases: Sequence[Case], accepted: np.ndarray, look: Verdicts, episodes: int) -> QualityReport:
    """Share of spoilt twins of accepted pairs that are refused, the least of three kinds: camera moved, nothing happened, two changes."""
    goal, chosen = f"at least {REFUSED} of every kind", _some([c for c, a in zip(cases, accepted, strict=True) if a])
    if not chosen:
        return not_measurable("twins_refused", "no pair was accepted, so there is none to spoil", goal)
    counts: dict[str, list[bool]] = {"camera_moved": [], "nothing_happened": [], "two_changes": []}
    for n, case in enumerate(chosen):
        pair = case.pair
        assert pair is not None
        angle, far = 2 * np.pi * drawn_unit("twin", n), 1 + 3 * drawn_unit("far", n)
        counts["camera_moved"].append(
            look(spoil.moved_camera(pair, far * float(np.cos(angle)), far * float(np.sin(angle)))) is not None
        )
        counts["nothing_happened"].append(look(spoil.nothing_happened(pair)) is not None)
        both = spoil.something_else_too(pair, n)
        if both is not None:
            counts["two_changes"].append(look(both) is not None)
    shares = {name: float(np.mean(refused)) for name, refused in counts.items() if refused}
    worst = min(shares, key=shares.__getitem__)
    values = np.array(counts[worst], np.float64)
    value, ci = ratio(values, np.ones(len(values)))
    return QualityReport(
        "twins_refused", value, ci, episodes, len(chosen), "all", {"accept_everything": 0.0}, verdict(value >= REFUSED),
        "accepted pairs of this data, spoilt on purpose", goal, shares,
    )  # fmt: skip


def reverse_symmetry(cases: Sequence[Case], accepted: np.ndarray, look: Verdicts, episodes: int) -> QualityReport:
    """Share of pairs on which the verdict is the same when they are read backwards, words left aside."""
    goal = f"at least {SYMMETRY}, above chance"
    chosen = [(c, bool(a)) for c, a in zip(cases, accepted, strict=True) if c.pair is not None][: 4 * AT_MOST]
    same, where = list[bool](), list[int]()
    for case, _ in chosen:
        assert case.pair is not None
        forth = look(replace(case.pair, prompt=""))
        same.append((forth is None) == (look(spoil.backwards(case.pair)) is None))
        where.append(case.episode)
    share = float(np.mean([a for _, a in chosen]))
    hits, total = _sums(np.array(same, np.float64), where, episodes)
    value, ci = ratio(hits, total)
    return QualityReport(
        "reverse_symmetry", value, ci, episodes, len(same), "all", {"at_random_same_rate": share**2 + (1 - share) ** 2},
        verdict(value >= SYMMETRY), "the same pairs, read backwards", goal,
    )  # fmt: skip


def directions(cases: Sequence[Case], accepted: np.ndarray, episodes: int) -> QualityReport:
    """Share of accepted pairs whose displacement goes where the simulator's thing went; baseline: directions dealt out anew."""
    goal = "at least 0.9, and above shuffled directions"
    judged = [(c, c.judged.moved) for c, a in zip(cases, accepted, strict=True) if a and c.direction and c.judged is not None]
    told = [(c, m) for c, m in judged if m is not None and m.dx is not None and m.dy is not None]
    if len(told) < 2:
        return not_measurable("direction_agreement", "fewer than two accepted pairs have a known direction in the picture", goal)

    def agree(words: Sequence[str]) -> F64:
        pairs = zip(words, told, strict=True)
        return np.array(
            [not contradicts(f"move it {w}", m.dx or 0.0, m.dy or 0.0, LEAST_MOVE) for w, (_, m) in pairs], np.float64
        )

    words = [c.direction for c, _ in told]
    value, ci = ratio(*_sums(agree(words), [c.episode for c, _ in told], episodes))
    mixed = np.random.Generator(np.random.Philox(0)).permutation(words).tolist()
    chance = float(agree(mixed).mean())
    return QualityReport(
        "direction_agreement", value, ci, episodes, len(told), "all", {"shuffled_directions": chance}, verdict(value >= 0.9 and value > chance),
        "object poses of the simulator, projected", goal,
    )  # fmt: skip


def _area_fits(case: Case) -> bool:
    """Tell whether a baseline that only looks at how much changed would take a pair."""
    if case.pair is None or case.judged is None:
        return False
    e = case.judged.evidence
    return e.config.least_area <= float(e.change.mean()) <= e.config.most_area


def _some(cases: Sequence[Case]) -> list[Case]:
    with_pictures = [c for c in cases if c.pair is not None]
    return [with_pictures[n] for n in spread(len(with_pictures), AT_MOST).tolist()] if with_pictures else []


def _share(which: np.ndarray, of: np.ndarray) -> float:
    return float(which[of].mean()) if of.any() else 0.0


def _per_episode(cases: Sequence[Case], hits: np.ndarray, of: np.ndarray, episodes: int) -> tuple[F64, F64]:
    where = [c.episode for c in cases]
    return _sums(hits.astype(np.float64), where, episodes)[0], _sums(of.astype(np.float64), where, episodes)[0]


def _sums(values: F64, where: Sequence[int], episodes: int) -> tuple[F64, F64]:
    """Return per episode the sum of its values and how many there are."""
    return np.bincount(where, values, episodes).astype(np.float64), np.bincount(where, minlength=episodes).astype(np.float64)


def _resampled(values: F64) -> F64:
    draws = np.random.Generator(np.random.Philox(0)).integers(0, len(values), (1000, len(values)))
    return np.median(values[draws], 1)
