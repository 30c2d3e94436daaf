"""How smooth is a movement? SPARC, log dimensionless jerk, and distance from a smooth envelope, each of one movement.

All three are free of units. On whole episodes the first two mostly measure length (correlation -.77 and -.96 on demonstrations of
equal quality), so callers cut episodes into movements first.
"""

import math

import numpy as np

from transforms.rotation import F64

CUTOFF_HZ, AMPLITUDE, PADDING = 10.0, 0.05, 4
MOST = 8  # numbers, of those that move farthest
DEGREE = 5  # a minimum-jerk movement is a quintic in time


def sparc(speed: F64, hz: float) -> float | None:
    """Spectral arc length of a speed profile float64[n]: 0 or less, nearer to 0 is smoother.

    Balasubramanian et al. (2015), as its reference implementation computes it: spectrum up to 10 Hz, cut where it stays below 5 %
    of its peak. None for a profile that is nowhere above zero, or sampled below 20 Hz, where 10 Hz cannot be seen.
    """
    if len(speed) < 4 or hz < 2 * CUTOFF_HZ - 0.5 or not float(np.max(speed)) > 0:
        return None
    size = int(2 ** (math.ceil(math.log2(len(speed))) + PADDING))
    frequency = np.arange(size) * (hz / size)
    magnitude = np.abs(np.fft.fft(speed, size))
    magnitude /= magnitude.max()
    low = frequency <= CUTOFF_HZ
    frequency, magnitude = frequency[low], magnitude[low]
    above = np.flatnonzero(magnitude >= AMPLITUDE)
    frequency, magnitude = frequency[above[0] : above[-1] + 1], magnitude[above[0] : above[-1] + 1]
    if len(frequency) < 2:
        return 0.0
    steps = np.diff(frequency) / (frequency[-1] - frequency[0])
    return -float(np.sum(np.sqrt(steps**2 + np.diff(magnitude) ** 2)))


def sparc_of_numbers(velocity: F64, hz: float) -> float | None:
    """SPARC of the speed of each number of float64[n, D], averaged by how far the number moves.

    The norm of many numbers hides noise: its share in each adds up to a constant, which is smooth.
    """
    far = np.abs(velocity).sum(0)
    told = [(sparc(np.abs(velocity[:, d]), hz), far[d]) for d in np.argsort(far)[::-1][:MOST].tolist() if far[d] > 0]
    known = [(v, w) for v, w in told if v is not None]
    return float(np.average([v for v, _ in known], weights=[w for _, w in known])) if known else None


def log_dimensionless_jerk(velocity: F64, hz: float) -> float | None:
    """Log dimensionless jerk of a velocity float64[n] or [n, D]: -ln(T^3 / v_peak^2 * integral of |v''|^2 dt), higher is smoother.

    Balasubramanian et al. (2015). None for a profile without any change of acceleration.
    """
    rows = velocity.reshape(len(velocity), -1)
    peak = float(np.max(np.linalg.norm(rows, axis=1), initial=0.0))
    if len(rows) < 4 or not peak > 0:
        return None
    jerk = np.diff(rows, 2, axis=0) * hz * hz
    value = (len(rows) / hz) ** 3 / peak**2 * float(np.sum(jerk**2)) / hz
    return -math.log(value) if value > 0 else None


def envelope_deviation(path: F64) -> float | None:
    """RMS distance of a movement float64[n, D] from the Bezier curve of degree 5 that fits it best, relative to its extent.

    The idea of RINSE's trajectory-envelope distance, with least squares for the envelope: zero for a minimum-jerk movement. None
    where nothing moves or there are too few points to tell.
    """
    extent = float(np.linalg.norm(np.ptp(path, axis=0))) if len(path) else 0.0  # not the length, which noise makes longer
    if len(path) < DEGREE + 3 or not extent > 0:
        return None
    u = np.linspace(0.0, 1.0, len(path))
    basis = np.stack([math.comb(DEGREE, k) * u**k * (1 - u) ** (DEGREE - k) for k in range(DEGREE + 1)], 1)
    fit, *_ = np.linalg.lstsq(basis, path, rcond=None)
    return float(np.sqrt(np.mean(np.sum((path - basis @ fit) ** 2, axis=1)))) / extent
