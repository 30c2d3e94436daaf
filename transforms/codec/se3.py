"""Absolute poses to changes of pose and back, exactly: the change is told in the moving frame and composed, never added."""

import numpy as np

from transforms.codec.base import F64
from transforms.rotation import apply, conjugate, multiply, normalise


def to_deltas(p: F64, q: F64) -> tuple[F64, F64]:
    """Return the change between neighbouring poses.

    Args:
        p: float64[3, T] positions, metres.
        q: float64[4, T] unit quaternions wxyz.

    Returns:
        `R_t' (p_{t+1} - p_t)`, float64[3, T - 1], and `q_t^-1 q_{t+1}`, float64[4, T - 1].
    """
    back = conjugate(q[:, :-1])
    return apply(back, np.diff(p, axis=1)), multiply(back, q[:, 1:])


def to_absolute(first_p: F64, first_q: F64, dp: F64, dq: F64) -> tuple[F64, F64]:
    """Compose changes onto a first pose; undoes `to_deltas` to rounding.

    Args:
        first_p: float64[3].
        first_q: float64[4].
        dp: float64[3, n] changes of position in the moving frame.
        dq: float64[4, n] changes of rotation.

    Returns:
        Positions float64[3, n + 1] and rotations float64[4, n + 1].
    """
    p, q = np.empty((3, dp.shape[1] + 1)), np.empty((4, dp.shape[1] + 1))
    p[:, 0], q[:, 0] = first_p, first_q
    for t in range(dp.shape[1]):
        p[:, t + 1] = p[:, t] + apply(q[:, t : t + 1], dp[:, t : t + 1])[:, 0]
        q[:, t + 1] = normalise(multiply(q[:, t : t + 1], dq[:, t : t + 1]))[:, 0]
    return p, q
