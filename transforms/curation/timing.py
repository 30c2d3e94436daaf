"""Scores of clocks: how even the steps are, what is missing between them, and whether cameras drift away from them."""

import numpy as np

from transforms.curation.score import Score, Subject, missing
from transforms.grid import SECOND

GAP = 1.5  # of the median period


def jitter(subject: Subject) -> Score:
    """Standard deviation of the step period over its median."""
    period = np.diff(subject.evidence.t_ns).astype(np.float64)
    if len(period) < 2:
        return missing("fewer than three steps")
    return Score(float(period.std() / max(float(np.median(period)), 1.0)))


def gaps(subject: Subject) -> Score:
    """Number of periods over 1.5 of the median; `doubled` counts steps that come no later than the one before."""
    period = np.diff(subject.evidence.t_ns)
    if len(period) < 2:
        return missing("fewer than three steps")
    return Score(float((period > GAP * np.median(period)).sum()), {"doubled": int((period <= 0).sum())})


def drift(subject: Subject) -> Score:
    """Seconds by which the worst camera's clock runs away from the steps' over the episode."""
    it = subject.evidence
    worst: dict[str, float] = {}
    for camera, track in it.tracks.items():
        column = f"frame.{camera}"
        if column not in it.steps.column_names:
            continue
        seen = it.seen(camera)
        at = np.flatnonzero((seen >= 0) & (seen < len(track.pts_ns)))
        if len(at) < 8:
            continue
        t = (it.t_ns[at] - it.t_ns[at[0]]) / SECOND
        late = (track.pts_ns[seen[at]] - it.t_ns[at]) / SECOND
        slope = np.polyfit(t, late, 1)[0]
        worst[camera] = float(abs(slope) * t[-1])
    if not worst:
        return missing("no camera with eight pictures")
    return Score(max(worst.values()), {"cameras": worst})
