"""Every metric against a closed form or a count by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from annotators.evaluation import area_under_roc
from schemas.contract import Camera
from transforms.gaze.glc import SIDE, glc_compat, labels
from transforms.gaze.maps import heat
from transforms.gaze.metrics import angular_error, auc_judd, f1_at, kl_divergence, nss, shuffled_auc, tune_threshold

SIGMA, N = 0.06, 128
MIDDLE = np.array([[0.5, 0.5]])


def shifted(x: float, y: float) -> np.ndarray:
    return MIDDLE + np.array([x, y])


def test_auc_judd_of_a_gaussian_is_one_minus_the_disc_inside() -> None:
    made = heat(MIDDLE, (N, N), SIGMA)
    for away in (0.0, 0.1, 0.2, 0.3):
        assert auc_judd(made, shifted(away, 0.0))[0] == pytest.approx(1 - np.pi * away**2, abs=0.004)
    assert auc_judd(np.ones((1, 8, 8)), MIDDLE)[0] == 0.5


def test_nss_of_a_gaussian_is_its_closed_form() -> None:
    made = heat(MIDDLE, (N, N), SIGMA)
    mean, square = 2 * np.pi * SIGMA**2, np.pi * SIGMA**2  # of exp(-r^2 / 2 sigma^2) over the unit square
    deviation = np.sqrt(square - mean**2)
    for away in (0.0, 0.05, 0.15):
        want = (np.exp(-(away**2) / (2 * SIGMA**2)) - mean) / deviation
        assert nss(made, shifted(0.0, away))[0] == pytest.approx(want, rel=0.01, abs=0.01)
    assert nss(np.ones((1, 8, 8)), MIDDLE)[0] == 0.0


def test_kl_of_two_gaussians_is_its_closed_form() -> None:
    label, other = heat(MIDDLE, (N, N), SIGMA), heat(shifted(0.08, -0.03), (N, N), 1.5 * SIGMA)
    want = 2 * np.log(1.5) + (2 * SIGMA**2 + 0.08**2 + 0.03**2) / (2 * (1.5 * SIGMA) ** 2) - 1
    assert kl_divergence(label, other)[0] == pytest.approx(want, rel=1e-3)
    assert kl_divergence(label, label)[0] == pytest.approx(0.0, abs=1e-9)


def test_shuffled_auc_of_a_ramp_is_that_of_two_normals() -> None:
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 1, 256), (400, 4, 256))
    xy = np.stack([0.55 + 0.1 * rng.normal(size=400), np.full(400, 0.5)], 1)
    negatives = np.stack([0.45 + 0.1 * rng.normal(size=2000), np.full(2000, 0.5)], 1)
    found = shuffled_auc(ramp, xy, negatives, np.zeros(400, np.int64), np.ones(2000, np.int64))
    assert found.mean() == pytest.approx(norm.cdf(0.1 / (0.1 * np.sqrt(2))), abs=0.02)
    exact = [area_under_roc(np.append(negatives[:, 0], x), np.arange(2001) == 2000) for x in xy[:20, 0]]
    assert found[:20] == pytest.approx(exact, abs=1e-9)


def test_the_centre_scores_nothing_against_where_others_looked() -> None:
    """Under sAUC the centre prior is worth .5, however well it does by other measures."""
    xy, owner = 0.5 + 0.1 * np.random.default_rng(1).normal(size=(300, 2)), np.arange(300) % 2
    centre = np.broadcast_to(heat([0.5, 0.5], (64, 64), 0.1), (300, 64, 64))
    found = shuffled_auc(centre, xy, xy, owner, owner)
    assert found.mean() == pytest.approx(0.5, abs=1e-9)  # what one half gains over the other, the other loses
    assert auc_judd(centre, xy).mean() > 0.9
    assert nss(centre, xy).mean() > 1.5


def test_negatives_of_the_same_group_are_left_out() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 16), (2, 2, 16))
    xy, owner = np.array([[0.6, 0.5], [0.6, 0.5]]), np.array([0, 1])
    negatives, other = np.array([[0.9, 0.5], [0.1, 0.5]]), np.array([0, 1])
    assert shuffled_auc(ramp, xy, negatives, owner, other).tolist() == [1.0, 0.0]
    assert np.isnan(shuffled_auc(ramp[:1], xy[:1], negatives[:1], owner[:1], other[:1])).all()


def test_angular_error_uses_the_lens() -> None:
    lens = Camera("c", width=200, height=100, intrinsics=(100.0, 0, 99.5, 0, 100.0, 49.5, 0, 0, 1))
    middle, right = np.array([[0.5, 0.5]]), np.array([[1.0, 0.5]])
    assert angular_error(lens, middle, right)[0] == pytest.approx(45.0)


def test_f1_counts_cells_and_its_threshold_is_tuned_elsewhere() -> None:
    maps = np.array([[[1.0, 0.6], [0.3, 0.0]]])
    label = np.array([[[True, False], [True, False]]])
    assert f1_at(maps, label, 0.5) == pytest.approx((0.5, 0.5, 0.5))
    assert f1_at(maps, label, 0.2) == pytest.approx((0.8, 1.0, 2 / 3))
    assert f1_at(maps, label, 1.0) == (0.0, 0.0, 0.0)
    assert tune_threshold(maps, label) < 0.3


def test_glc_compat_is_what_its_evaluator_does() -> None:
    """An independent writing of it: OpenCV's blur, thresholds chosen on the same maps, recall and precision averaged over frames."""
    import cv2

    rng = np.random.default_rng(2)
    xy = rng.uniform(0.2, 0.8, (6, 2))
    maps = heat(xy + 0.05 * rng.normal(size=(6, 2)), (SIDE, SIDE), 0.05)
    blurred = np.zeros((6, SIDE, SIDE))
    for row, (x, y) in enumerate(xy):
        blurred[row, int(y * SIDE), int(x * SIDE)] = 1
        blurred[row] = cv2.GaussianBlur(blurred[row], (19, 19), 0)
    truth = blurred > 0.001
    assert (labels(xy) == truth).mean() > 0.9995
    best = (0.0, 0.0)
    for t in np.linspace(0, 0.02, 11):
        said = maps / maps.sum((1, 2), keepdims=True) > t
        hit = (said & truth).sum((1, 2))
        recall, precision = (hit / truth.sum((1, 2))).mean(), (hit / np.maximum(said.sum((1, 2)), 1)).mean()
        best = max(best, (2 * recall * precision / max(recall + precision, 1e-9), t))
    found = glc_compat(maps, xy)
    assert (found.f1, found.threshold) == pytest.approx(best, abs=5e-3)
    assert 0 < found.angular_deg < 8
    perfect = glc_compat(heat(xy, (SIDE, SIDE), 0.05), xy)
    assert perfect.auc > found.auc > 0.9
    assert perfect.angular_deg < 0.5
