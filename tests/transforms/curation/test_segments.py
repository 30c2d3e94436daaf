import numpy as np
import pytest

from transforms.curation.segments import valleys


def by_definition(speed: np.ndarray, depth: float) -> list[int]:
    """Minima from which the profile rises by `depth` on both sides before it falls below them again."""
    found = []
    for i in range(1, len(speed) - 1):
        if not (speed[i] < speed[i - 1] and speed[i] <= speed[i + 1]):
            continue
        left = np.flatnonzero(speed[:i] < speed[i])
        right = np.flatnonzero(speed[i + 1 :] <= speed[i])
        before = speed[left[-1] + 1 if len(left) else 0 : i].max()
        after = speed[i : i + 1 + (right[0] if len(right) else len(speed))].max()
        if min(before, after) - speed[i] >= depth:
            found.append(i)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_valleys_are_minima_of_enough_prominence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    speed = np.convolve(rng.normal(size=200), np.ones(11) / 11, "same")
    depth = 0.3 * float(np.ptp(speed))
    assert valleys(speed, depth) == by_definition(speed, depth)
