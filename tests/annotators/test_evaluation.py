import numpy as np
import pytest

from annotators.evaluation import area_under_roc, bootstrap, folds, not_measurable, ratio, total_variation


def test_the_interval_resamples_episodes_not_steps() -> None:
    rng = np.random.default_rng(0)
    hits = rng.binomial(100, 0.3, size=200).astype(float)
    value, ci = ratio(hits, np.full(200, 100.0))
    assert ci is not None
    assert ci[0] < value < ci[1]
    assert ci[1] - ci[0] == pytest.approx(4 * np.sqrt(0.3 * 0.7 / 20000), rel=0.25)
    alike = np.repeat(rng.binomial(1, 0.3, size=20) * 100.0, 1)
    _, wide = ratio(alike, np.full(20, 100.0))
    assert wide is not None
    assert wide[1] - wide[0] > 0.25  # steps of one episode are one observation


def test_the_interval_is_the_same_every_time_and_absent_for_one_episode() -> None:
    assert ratio(np.arange(9.0), np.ones(9)) == ratio(np.arange(9.0), np.ones(9))
    assert bootstrap(lambda draws: draws.sum(1), 1) is None
    assert np.isnan(ratio(np.zeros(2), np.zeros(2))[0])


def test_total_variation() -> None:
    assert total_variation(np.array([1, 1, 0]), np.array([0, 2, 2])) == pytest.approx(0.5)
    assert total_variation(np.array([3, 0]), np.array([0, 9])) == 1.0


def test_area_under_roc_counts_ties_half() -> None:
    assert area_under_roc(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == 1.0
    assert area_under_roc(np.array([1.0, 1, 1, 1]), np.array([False, True, False, True])) == 0.5
    assert np.isnan(area_under_roc(np.ones(3), np.zeros(3, bool)))


def test_folds_follow_the_id_and_are_even() -> None:
    names = [f"ep-{i}" for i in range(23)]
    found = folds(names)
    assert np.bincount(found).tolist() == [5, 5, 5, 4, 4]
    shuffled = np.random.default_rng(0).permutation(23)
    assert (folds([names[i] for i in shuffled]) == found[shuffled]).all()
    assert folds(["a", "b"]).max() == 1


def test_what_cannot_be_measured_has_no_number() -> None:
    report = not_measurable("metric", "no truth")
    assert (report.value, report.gate, report.gt_source) == (None, "not-measurable", "no truth")
