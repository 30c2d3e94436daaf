"""How fast motions and segments are read from signals, on one core.

Language motions stand against ECoT's rule worked out step by step in Python, as it was published. Segments stand against the same dynamic
programming with one least-squares fit per candidate segment. Frames per second of processor time, the whole annotator with its rows.

    python benchmarks/annotators.py runs this among the others; alone: python benchmarks/annotators_motion.py [--quick] [--json]
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from annotators.base import Batch
from annotators.motion.language_motion import LanguageMotion
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from benchmarks.harness import Sample, goal, main, measure, take_turns
from tests.support.motion import make_trajectory, sample
from tests.support.scripts import sample_scripts
from transforms.changepoint import cut, residuals
from transforms.rotation import to_euler

RATES = (30, 50)
type Section = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def section(quick: bool) -> Section:
    """Measure motions, segments, and their peers."""
    films = {hz: sample([make_trajectory(s) for s in range(20)] * (2 if quick else 10), hz) for hz in RATES}
    scripts = sample_scripts(list(range(6 if quick else 24)), 30)
    few = films[30].take(list(range(4)))
    cases: dict[str, Callable[[], Sample]] = {
        **{f"language_motion, {hz} Hz": _whole(LanguageMotion(), batch) for hz, batch in films.items()},
        "ecot, step by step in Python": lambda: measure(lambda: _ecot(few)),
        "segments": _whole(Segments(), scripts),
        "segments without motions": _whole(Segments(SegmentsConfig(motions=False)), scripts),
        "change points": lambda: measure(lambda: _cut_all(_fast)),
        "change points, a fit per segment": lambda: measure(lambda: _cut_all(_slow)),
    }
    timings = take_turns(cases)
    slowest = min(timings[f"language_motion, {hz} Hz"].per_cpu_s for hz in RATES)
    peer, mine = timings["ecot, step by step in Python"].per_cpu_s, timings["change points"].per_cpu_s
    fits = timings["change points, a fit per segment"].per_cpu_s
    return [t.row("frames") for t in timings.values()], [
        goal("motions", "language motions above 1 M frames/s per core, with their rows", slowest, slowest > 1e6),
        goal("motions against ECoT", "faster than ECoT's rule step by step", slowest / peer, slowest > peer),
        goal("change points", "faster than a fit per segment", mine / fits, mine > fits),
    ]


def _whole(annotator: Any, batch: Batch) -> Callable[[], Sample]:
    def work() -> float:
        annotator.run(Batch(batch.contract, batch.steps))
        return float(batch.steps.num_rows)

    return lambda: measure(work)


def _ecot(batch: Batch) -> float:
    """ECoT's published labels, one step at a time."""
    state = np.stack(batch.steps.column("observation.state").to_pylist())
    poses = np.concatenate([state[:, :3], to_euler(state[:, 3:7].T).T, state[:, 7:]], 1).tolist()
    moves = (("backward", "forward"), ("right", "left"), ("down", "up"))
    texts: list[str] = []
    for a, b in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
        for i in range(a, b):
            change = [y - x for x, y in zip(poses[i], poses[min(i + 3, b - 1)], strict=True)]
            path = sum(abs(c) for c in change[:3])
            scale = 0.09 / path if path > 0.09 else 1.0
            change = [c * scale for c in change[:3]] + [c / 10 for c in change[3:6]] + change[6:]
            on = [(c > 0.03) - (c < -0.03) for c in change]
            parts = [words[c > 0] for words, c in zip(moves, on[:3], strict=True) if c]
            turns = [name for name, c in zip(("tilt", "tilt", "rotate", "gripper"), on[3:], strict=True) if c]
            texts.append(", ".join([*(["move " + " ".join(parts)] if parts else []), *turns]) or "stop")
    return float(len(texts))


def _cut_all(fit: Callable[[np.ndarray, int], np.ndarray]) -> float:
    """Cut a wavy path of seven numbers, ten seconds at 10 Hz, segments of up to four seconds; 30 frames a second were recorded."""
    x = np.random.default_rng(0).normal(size=(7, 100)).cumsum(1) * 0.3
    cut(fit(x, 40), 1.0, np.zeros(100), 3)
    return 300.0


def _fast(x: np.ndarray, longest: int) -> np.ndarray:
    return residuals(x, longest, "bspline")


def _slow(x: np.ndarray, longest: int) -> np.ndarray:
    """The misfit of every segment by a least-squares fit of its own."""
    size = x.shape[1]
    found = np.full((longest + 1, size + 1), np.inf)
    for n in range(1, longest + 1):
        t = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        basis = np.stack([np.ones(n), t, t**2, t**3, np.maximum(t, 0) ** 3], 1)
        for i in range(size - n + 1):
            part = x[:, i : i + n].T
            weights = np.linalg.lstsq(basis, part, rcond=None)[0]
            found[n, i] = ((basis @ weights - part) ** 2).sum()
    return found


if __name__ == "__main__":
    main("annotators_motion", __doc__ or "", import_module("benchmarks.annotators_motion").section)
