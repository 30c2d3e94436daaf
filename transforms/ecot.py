"""ECoT's published motion labels, reproduced with their defects, because datasets carry them and evaluations compare with them.

Source: `primitive_movements.py` of Embodied Chain-of-Thought (Zawalski et al. 2024). What is wrong with it, each held by a test:
equal shares of a fast diagonal say "stop"; only axes with more than a third of the path count; a yaw that passes pi is reported as
a strong turn the other way; and the window is four frames, so the threshold is 5 cm/s at 5 Hz and 50 cm/s at 50 Hz.
"""

import numpy as np

from transforms.grid import I64
from transforms.motion import I8
from transforms.rotation import F64

FRAMES = 4
THRESHOLD = 0.03  # metres, tenths of radians and gripper opening alike

_MOVES = (("backward", "forward"), ("right", "left"), ("down", "up"))
_TILT = ("tilt down", "tilt up")
_TURN = ("rotate clockwise", "rotate counterclockwise")
_GRIP = ("close gripper", "open gripper")


def ecot_codes(state: F64, starts: I64, threshold: float = THRESHOLD) -> I8:
    """Label every step with the change over it and the next three.

    Args:
        state: float64[7, T]: x, y, z (metres), roll, pitch, yaw (radians, as stored: not unwrapped), gripper opening.
        starts: int64[E + 1] episodes.
        threshold: ECoT's one threshold.

    Returns:
        int8[7, T] of -1, 0, 1. Windows are cut short by the end of the episode; the last step repeats the one before it.
    """
    last = np.repeat(starts[1:] - 1, np.diff(starts))
    here = np.arange(state.shape[1])
    change = state[:, np.minimum(here + FRAMES - 1, last)] - state
    path = np.abs(change[:3]).sum(0)
    change[:3] *= np.where(path > 3 * threshold, 3 * threshold / np.where(path > 0, path, 1.0), 1.0)
    change[3:6] /= 10
    codes = (change > threshold).astype(np.int8) - (change < -threshold).astype(np.int8)
    ends = starts[1:] - 1
    longer = np.diff(starts) > 1
    codes[:, ends[longer]] = codes[:, ends[longer] - 1]
    return codes


def ecot_text(code: I8) -> str:
    """Write one int8[7] code in ECoT's words; "stop" where nothing moves. Pitch is only named where roll is still."""
    parts: list[str] = []
    if moves := [words[int(c > 0)] for words, c in zip(_MOVES, code[:3], strict=True) if c]:
        parts.append("move " + " ".join(moves))
    for words, c in ((_TILT, code[3] or code[4]), (_TURN, code[5]), (_GRIP, code[6])):
        if c:
            parts.append(words[int(c > 0)])
    return ", ".join(parts) or "stop"
