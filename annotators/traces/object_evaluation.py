"""Are object points on their objects, and does the hand close on one? Against a simulator's masks, with twins of other times."""

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.traces.hand import hand_source, read_hand
from annotators.traces.masks import Seen, name_masks, under

METRICS = ("point_in_mask", "contact_near_object")
MASK_GOAL, NEAR_M = 0.8, 0.08
LATER_S = 1.0


def evaluate_objects(
    seen: list[Seen] | str, batch: Batch, tip_m: tuple[float, float, float], delay_s: float = 0.0
) -> tuple[QualityReport, ...]:
    """Return both reports.

    Args:
        seen: the episodes that can be looked at, or why none can.
        batch: what they were read from.
        tip_m: where the tip is in the hand's frame.
        delay_s: puts a twin in place, whose points are those of another time.
    """
    if isinstance(seen, str):
        return tuple(not_measurable(m, seen) for m in METRICS)
    return point_in_mask(seen, batch, delay_s), contact_near_object(seen, batch, tip_m, delay_s)


def point_in_mask(seen: list[Seen], batch: Batch, delay_s: float) -> QualityReport:
    """Share of projected object centres that lie on the object's own mask. Baseline: centres of a second later."""
    goal = f"at least {MASK_GOAL}"
    hits, total, late = np.zeros(len(seen)), np.zeros(len(seen)), np.zeros(len(seen))
    for at, look in enumerate(seen):
        names = {label: value for value, label in name_masks(look).items()}
        if look.clip is None or not names:
            continue
        wait, later = (_steps(batch, look, s) for s in (delay_s, LATER_S))
        for step in np.flatnonzero(np.diff(look.clip.seen, prepend=-1) > 0).tolist():
            picture = look.clip.pictures[look.clip.seen[step]]
            for label, value in names.items():
                if not (picture == value).any():
                    continue
                place, last = look.places[label], look.places[label].shape[1] - 1
                if np.linalg.norm(place[:, min(step + later, last)] - place[:, step]) < 0.02:
                    continue  # it rests: any time would do
                total[at] += 1
                hits[at] += under(look.view, picture, place[:, [min(step + wait, last)]], step) == value
                late[at] += under(look.view, picture, place[:, [min(step + later, last)]], step) == value
    if not total.sum():
        return not_measurable("point_in_mask", "no masks, or no object that moves", goal)
    value, ci = ratio(hits, total)
    others = {"a_second_later": float(late.sum() / total.sum())}
    return QualityReport(
        "point_in_mask", value, ci, len(seen), int(total.sum()), "all", others, verdict(value >= MASK_GOAL and value > others["a_second_later"]),
        "the simulator's segmentation", goal, {"counted": "objects that move at least 2 cm within the next second"},
    )  # fmt: skip


def contact_near_object(seen: list[Seen], batch: Batch, tip_m: tuple[float, float, float], delay_s: float) -> QualityReport:
    """Share of gripper closings within 8 cm of some object's centre. Baseline: the same instants of the episode turned round in time."""
    source = hand_source(batch.contract)
    goal = "above the baseline"
    hits, total, turned = np.zeros(len(seen)), np.zeros(len(seen)), np.zeros(len(seen))
    for at, look in enumerate(seen):
        if source is None:
            break
        part = Batch(batch.contract, batch.steps.slice(look.rows.start, look.rows.stop - look.rows.start))
        hand = read_hand(part, source, tip_m)
        last = hand.tip.shape[1] - 1
        for step in np.flatnonzero(hand.event < 0).tolist():
            total[at] += 1
            shown = max(step - _steps(batch, look, delay_s), 0)
            hits[at] += _nearest(look, hand.tip[:, shown], step) < NEAR_M
            turned[at] += _nearest(look, hand.tip[:, last - step], step) < NEAR_M
    if not total.sum():
        return not_measurable("contact_near_object", "the gripper never closes", goal)
    value, ci = ratio(hits, total)
    others = {"turned_round_in_time": float(turned.sum() / total.sum())}
    return QualityReport(
        "contact_near_object", value, ci, len(seen), int(total.sum()), "all", others,
        verdict(value > others["turned_round_in_time"]), "the simulator's object poses", goal, {"metres": NEAR_M},
    )  # fmt: skip


def _steps(batch: Batch, look: Seen, seconds: float) -> int:
    t = batch.t_ns[look.rows]
    period = float(np.median(np.diff(t))) * 1e-9 if len(t) > 1 else 1.0
    return round(seconds / period)


def _nearest(look: Seen, tip: np.ndarray[tuple[int, ...], np.dtype[np.float64]], step: int) -> float:
    return min(float(np.linalg.norm(place[:, step] - tip)) for place in look.places.values())
