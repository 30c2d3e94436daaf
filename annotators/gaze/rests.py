"""The fixations of one episode as things of their own: when, where, which steps."""

from dataclasses import dataclass

import numpy as np

from annotators.base import Batch
from annotators.gaze.samples import Samples
from transforms.rotation import F64


@dataclass(frozen=True, slots=True)
class Rest:
    """One fixation.

    Attributes:
        number: in its episode.
        start_ns: time of its first sample.
        stop_ns: of its last.
        xy: float64[2], mean of its points, shares of the picture.
        first: row of the batch: the first step inside, or the nearest where none is.
        stop: row after its last.
    """

    number: int
    start_ns: int
    stop_ns: int
    xy: F64
    first: int
    stop: int


def rests_of(batch: Batch, episode: int, samples: Samples) -> list[Rest]:
    """Return the fixations of an episode whose place in the picture is known, in order; those outside of the picture are left out."""
    a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
    t_ns = batch.t_ns[a:b]
    found: list[Rest] = []
    for number in range(int(samples.fixation.max(initial=-1)) + 1):
        mine = np.flatnonzero((samples.fixation == number) & np.isfinite(samples.xy).all(1) & samples.ahead)
        if not len(mine):
            continue
        xy = samples.xy[mine].mean(0)
        start, stop = int(samples.t_ns[mine[0]]), int(samples.t_ns[mine[-1]])
        if stop < t_ns[0] or start > t_ns[-1] or not bool(((xy >= 0) & (xy <= 1)).all()):
            continue
        first, after = (int(np.searchsorted(t_ns, t, side=s)) for t, s in ((start, "left"), (stop, "right")))  # type: ignore[arg-type]
        if after <= first:
            first = int(np.abs(t_ns - start).argmin())
            after = first + 1
        found.append(Rest(number, start, stop, np.asarray(xy, np.float64), a + first, a + after))
    return sorted(found, key=lambda r: (r.first, r.start_ns))
