"""What a score is, and how the scores of an episode's movements become the episode's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from transforms.curation.segments import Span
from transforms.curation.signals import Signals
from transforms.lint.base import Evidence
from transforms.rotation import F64

Group = Literal["proprio", "timing", "video", "agreement"]


@dataclass(frozen=True, slots=True)
class Score:
    """One number about one episode; None where this episode cannot be measured, and `detail["why"]` says why."""

    value: float | None
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Footage:
    """What was decoded of one camera, in time order.

    Attributes:
        luma: float32[n, h, w], 0 to 255, scaled down.
        sharpness: float64[n] variance of the Laplacian at full size.
        t_ns: int64[n] time of the step that sees each picture.
    """

    luma: Any
    sharpness: F64
    t_ns: Any


@dataclass(frozen=True)
class Subject:
    """An episode as scores see it. `spans` are its movements; `footage` is empty where no pictures were asked for."""

    evidence: Evidence
    signals: Signals | None
    spans: Sequence[Span] = ()
    footage: Mapping[str, Footage] = field(default_factory=dict[str, Footage])
    unreadable: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Metric:
    """A quality score.

    Attributes:
        group: which part of the recording it is about.
        better: whether more of it is better.
        flag: the published or usual limit beyond which an episode is suspicious, in words.
        compute: the score of one episode; None for scores that need the whole dataset.
        pictures: whether it looks at decoded pictures.
    """

    group: Group
    better: Literal["more", "less"]
    flag: str
    compute: Callable[[Subject], Score] | None
    pictures: bool = False


def missing(why: str) -> Score:
    """Say that a score cannot be measured on this episode."""
    return Score(None, {"why": why})


def over_movements(subject: Subject, measure: Callable[[Span], float | None], better: Literal["more", "less"]) -> Score:
    """Score every movement; the episode's value is their median, and `tail` their worst decile."""
    signals = subject.signals
    if signals is None:
        return missing("no motion to read")
    told = [(span, v) for span in subject.spans if (v := measure(span)) is not None]
    if not told:
        return missing("no movement of at least 0.4 s that this score can measure")
    values = np.array([v for _, v in told])
    times = signals.even_ns
    pieces = [[int(times[a]), int(times[min(b, len(times) - 1)]), round(v, 6)] for (a, b), v in told]
    tail = float(np.quantile(values, 0.1 if better == "more" else 0.9))
    return Score(float(np.median(values)), {"tail": tail, "movements": pieces})
