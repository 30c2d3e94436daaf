"""Which steps keep their reasoning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.pruning import PruneConfig, keep_reasoning


def _episode(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noise with ten events, seen and acted a little above it."""
    rng = np.random.default_rng(seed)
    true = np.zeros(count, bool)
    true[10::20] = True
    event, motion = rng.normal(size=(2, count)) + 6 * true
    return np.arange(count) / 10, event, motion, true


@pytest.mark.parametrize("seed", range(4))
def test_true_events_stay_at_a_retention_of_thirty_percent(seed):
    t, event, motion, true = _episode(seed)
    keep = keep_reasoning(t, event, motion, np.zeros(200, bool), np.arange(200) // 20, PruneConfig(0.3))
    assert keep[true].mean() >= 0.95
    assert keep.mean() <= 0.3


def test_shuffled_scores_lose_the_events():
    t, event, motion, true = _episode(0)
    order = np.random.default_rng(5).permutation(200)
    keep = keep_reasoning(t, event[order], motion[order], np.zeros(200, bool), np.zeros(200, np.int64), PruneConfig(0.3))
    assert keep[true].mean() < 0.6


@given(st.integers(0, 1000), st.integers(1, 60), st.floats(0.01, 1), st.floats(0, 2))
def test_what_must_stay_stays(seed, count, retention, apart):
    rng = np.random.default_rng(seed)
    must, segment = rng.random(count) < 0.1, np.sort(rng.integers(0, 5, count))
    keep = keep_reasoning(
        np.arange(count) / 10, rng.random(count), rng.random(count), must, segment, PruneConfig(retention, apart)
    )
    assert keep[0]
    assert keep[must].all()
    assert set(segment[keep]) == set(segment)
    forced = len(set(segment)) + int(must.sum()) + 1
    assert keep.sum() <= max(round(retention * count), 1) + forced


def test_kept_steps_lie_apart():
    t, event, motion, _ = _episode(1)
    keep = keep_reasoning(t, event, motion, np.zeros(200, bool), np.zeros(200, np.int64), PruneConfig(0.5, apart_s=0.5))
    assert np.diff(t[keep]).min() >= 0.5 - 1e-9


def test_an_impossible_retention_is_refused():
    with pytest.raises(UsageError, match="retention"):
        PruneConfig(0)
