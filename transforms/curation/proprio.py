"""Scores of proprioception and action: idling, smoothness, saturation, tracking, gripper chatter."""

from typing import Any

import numpy as np

from schemas.contract import Feature
from transforms.curation.score import Score, Subject, missing, over_movements
from transforms.curation.signals import BOOL, NO_OP, motion_dims, spans
from transforms.curation.smoothness import envelope_deviation, log_dimensionless_jerk, sparc_of_numbers
from transforms.grid import SECOND, changes, runs
from transforms.lint.base import correlation, representation
from transforms.rotation import F64

LONG_IDLE_S, SHORT_MOVE_S, TRIM_S = 7 / 15, 16 / 15, 3 / 15  # openpi's filter of DROID, which counts steps at 15 Hz
OPEN, CLOSED = 0.95, 0.05  # Octo's binarisation
CHATTER_S, LATEST_S, AT_LIMIT = 0.5, 0.5, 0.999
CHANGES = ("delta", "velocity", "normalised")


def smoothness(subject: Subject) -> Score:
    """Median SPARC of the movements; see `transforms.curation.smoothness`."""
    signals = subject.signals
    if signals is not None and signals.hz < 19.5:
        return missing(f"SPARC looks up to 10 Hz and needs 20 Hz or more; this episode has {signals.hz:.3g}")
    return over_movements(subject, lambda s: sparc_of_numbers(_velocity(subject)[s[0] : s[1]], _hz(subject)), "more")


def jerk(subject: Subject) -> Score:
    """Median log dimensionless jerk of the movements."""
    return over_movements(subject, lambda s: log_dimensionless_jerk(_velocity(subject)[s[0] : s[1]], _hz(subject)), "more")


def envelope(subject: Subject) -> Score:
    """Median distance of the movements from their smooth envelopes, relative to their extent."""

    def measure(span: tuple[int, int]) -> float | None:
        assert subject.signals is not None
        return envelope_deviation(subject.signals.path[span[0] : span[1]])

    return over_movements(subject, measure, "less")


def idling(subject: Subject) -> Score:
    """Share of time without motion; with delta actions, `no_op` is the share of actions that ask for nothing."""
    signals = subject.signals
    if signals is None:
        return missing("no motion to read")
    idle = signals.idle
    keep = keep_moving(idle, signals.hz)
    detail: dict[str, Any] = {"longest_s": _longest(idle) / signals.hz, "filtered": float(1 - keep.mean())}
    action = subject.evidence.action
    if action is not None and representation(action) in CHANGES:
        asked = np.linalg.norm(np.nan_to_num(subject.evidence.values(action)[:, motion_dims(action)]), axis=1)
        detail["no_op"] = float((asked < NO_OP).mean())
    return Score(float(idle.mean()), detail)


def keep_moving(idle: BOOL, hz: float) -> BOOL:
    """Return bool[n]: what openpi's filter of DROID keeps. Idle runs over 7/15 s go, then moving runs under 16/15 s, and the end of each run.

    The published filter counts steps (7, 16 and 3 at 15 Hz); here they are seconds.
    """
    keep = np.ones(len(idle), bool)
    first, length = runs(changes(idle))
    for a, n in zip(first, length, strict=True):
        if idle[a] and n > LONG_IDLE_S * hz:
            keep[a : a + n] = False
    first, length = runs(changes(keep))
    for a, n in zip(first, length, strict=True):
        if keep[a]:
            whole = n >= SHORT_MOVE_S * hz
            trim = min(round(TRIM_S * hz), n) if a + n < len(idle) else 0
            keep[(a + n - trim if whole else a) : a + n] = False
    return keep


def saturation(subject: Subject) -> Score:
    """Share of moving steps at which a commanded change sits at its limit: 1 where normalised, else the episode's own largest value.

    Grippers are left out: they are at their limits by design. Absolute targets are not measured: a robot may rest at its limit.
    """
    action = subject.evidence.action
    if action is None or representation(action) not in CHANGES:
        return missing("only actions that command a change can be saturated")
    size = np.abs(np.nan_to_num(subject.evidence.values(action)[:, motion_dims(action)]))
    limit = np.ones(size.shape[1]) if representation(action) == "normalised" else size.max(0, initial=0.0)
    at = (size >= AT_LIMIT * limit) & (limit > NO_OP)
    if representation(action) != "normalised":
        at &= at.sum(0) > 1  # every signal is at its own largest value once
    return Score(float(at.any(1).mean()) if len(at) else 0.0)


def tracking_error(subject: Subject) -> Score:
    """95th percentile over steps of RMS(commanded - reached), in spans, at the delay that fits best (up to 0.5 s)."""
    it, action = subject.evidence, subject.evidence.action
    state = None if action is None else _same_numbers(action, it.states)
    if action is None or state is None or it.count < 8:
        return missing("no action and state with the same numbers")
    dims = motion_dims(state)
    asked, shown = (np.nan_to_num(it.values(f))[:, dims] for f in (action, state))
    how = representation(action) or ("absolute" if _alike(asked, shown) else None)
    if how is None:
        return missing("the contract does not say whether actions are absolute, and they do not look like the state")
    hz = SECOND / max(float(np.median(np.diff(it.t_ns))), 1.0)
    if how in CHANGES:
        shown = np.diff(shown, axis=0, append=shown[-1:])
        gain = (asked * shown).sum(0) / np.maximum((asked * asked).sum(0), 1e-12)
        asked = asked * gain
    scale = np.maximum(spans(shown), spans(asked))
    errors = [
        np.sqrt(np.mean(((asked[: len(asked) - d] - shown[d:]) / scale) ** 2, axis=1))
        for d in range(min(int(LATEST_S * hz), it.count // 2) + 1)
    ]
    best = int(np.argmin([e.mean() for e in errors]))
    return Score(float(np.quantile(errors[best], 0.95)), {"delay_s": best / hz})


def chatter(subject: Subject) -> Score:
    """Share of a gripper's toggles that another one follows within 0.5 s; the worst gripper's."""
    signals = subject.signals
    if signals is None or not signals.grips:
        return missing("no gripper")
    worst, toggles = 0.0, 0
    for grip in signals.grips:
        opened = binarise(grip.opening)
        times = signals.t_ns[1:][opened[1:] != opened[:-1]]
        toggles += len(times)
        if len(times) > 1:
            worst = max(worst, float((np.diff(times) <= CHATTER_S * SECOND).sum()) / len(times))
    return Score(worst, {"toggles": toggles})


def binarise(opening: F64) -> BOOL:
    """Return bool[T]: open above .95, closed below .05, and in between what comes next; Octo's rule. Ends undecided as more than half."""
    result = np.empty(len(opening), bool)
    last = bool(len(opening) and opening[-1] > 0.5)
    for i in range(len(opening) - 1, -1, -1):
        last = True if opening[i] > OPEN else False if opening[i] < CLOSED else last
        result[i] = last
    return result


def succeeded(subject: Subject) -> Score:
    """1 for an episode labelled a success, 0 for a failure."""
    success = subject.evidence.row.get("success")
    return missing("no success label") if success is None else Score(float(success))


def _velocity(subject: Subject) -> F64:
    assert subject.signals is not None
    return subject.signals.velocity


def _hz(subject: Subject) -> float:
    assert subject.signals is not None
    return subject.signals.hz


def _longest(marks: BOOL) -> int:
    if not marks.any():
        return 0
    first, length = runs(changes(marks))
    return int(max(n for a, n in zip(first, length, strict=True) if marks[a]))


def _alike(asked: F64, shown: F64) -> bool:
    """Tell whether commands look like absolute targets: most of their numbers go along with the state's."""
    told = [correlation(a, s) for a, s in zip(asked.T, shown.T, strict=True) if np.ptp(a) > 1e-6 and np.ptp(s) > 1e-6]
    return bool(told) and float(np.median(told)) > 0.8


def _same_numbers(action: Feature, states: list[Feature]) -> Feature | None:
    """Return the state whose numbers the action commands: the same names, else the same count where neither has names."""
    for state in states:
        if state.size == action.size and (not state.names or not action.names or state.names == action.names):
            return state
    return None
