import numpy as np
import pytest

from transforms import segment_scores as s


def test_boundaries_are_matched_one_to_one() -> None:
    found, truth = np.array([1.0, 1.1, 5.0]), np.array([1.05, 3.0, 5.4])
    assert s.matched_boundaries(found, truth, 0.2) == 1  # two found ones share a truth
    assert s.matched_boundaries(found, truth, 0.5) == 2
    # greedy matching of the nearest would pair 1.0 with .9 and leave both others alone
    assert s.matched_boundaries(np.array([0.7, 1.0]), np.array([0.9, 1.3]), 0.31) == 2
    assert s.matched_boundaries(found, np.empty(0), 0.5) == 0
    assert s.f1(2, 3, 3) == pytest.approx(2 / 3)
    assert s.f1(0, 0, 0) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_matching_is_as_large_as_the_hungarian_one(seed: int) -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    found, truth = np.sort(rng.random(12) * 6), np.sort(rng.random(9) * 6)
    near = np.abs(found[:, None] - truth) <= 0.4
    assert s.matched_boundaries(found, truth, 0.4) == near[linear_sum_assignment(~near)].sum()


def test_edit_score_is_one_less_normalised_distance() -> None:
    assert s.edit_score([1, 2, 3], [1, 2, 3]) == 1
    assert s.edit_score([1, 2, 3, 4], [1, 3, 4]) == pytest.approx(0.75)
    assert s.edit_score([], [1]) == 0
    assert s.edit_score([], []) == 1


def test_overlap_counts_one_hit_per_true_segment() -> None:
    truth = np.array([0] * 6 + [1] * 6)
    split = np.array([0, 0, 0, 2, 0, 0] + [1] * 6)
    assert s.overlap_hits(truth, truth, 0.5) == (2, 2, 2)
    assert s.overlap_hits(split, truth, 0.1) == (2, 4, 2)
    assert s.overlap_hits(split, truth, 0.9) == (1, 4, 2)
    assert s.overlap_hits(1 - truth, truth, 0.1) == (0, 2, 2)
