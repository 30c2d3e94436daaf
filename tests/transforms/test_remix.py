"""Re-Mix's share update against its closed forms."""

import numpy as np
import pyarrow as pa
import pytest

from schemas.errors import UsageError
from transforms.remix import EXCESS_LOG, RemixConfig, fit_shares, raise_to_floor

PRIOR = {"a": 3.0, "b": 2.0, "c": 5.0}


def _log(steps: int, excess: dict[str, float]) -> pa.Table:
    rows = [{"step": t, "domain": d, "excess": x} for t in range(steps) for d, x in excess.items()]
    return pa.Table.from_pylist(rows, schema=EXCESS_LOG)


def test_without_smoothing_a_constant_pressure_grows_exponentially():
    excess = {"a": 0.1, "b": 0.4, "c": 0.0}
    fit = fit_shares(_log(40, excess), PRIOR, RemixConfig(smoothing=0, floor=0))
    grown = np.array([PRIOR[d] * np.exp(0.2 * 40 * excess[d]) for d in fit.domains])
    np.testing.assert_allclose(fit.path[-1], grown / grown.sum(), rtol=1e-9)
    np.testing.assert_allclose(fit.shares, fit.path[1:].mean(axis=0), rtol=1e-12)


def test_smoothing_keeps_a_share_of_the_prior():
    fit = fit_shares(_log(300, {"a": 0.0, "b": 2.0, "c": 0.0}), PRIOR, RemixConfig(floor=0))
    prior = np.array([PRIOR[d] for d in fit.domains]) / 10
    assert (fit.path >= 0.05 * prior - 1e-12).all()
    assert fit.path[-1][1] > 0.85


def test_what_cannot_be_learned_decays_to_the_floor():
    """Noise alone leaves no excess over the reference, learnable domains do."""
    fit = fit_shares(_log(500, {"a": -0.3, "b": 0.3, "c": 0.3}), PRIOR, RemixConfig(smoothing=0, floor=0.02))
    assert fit.weights()["a"] == pytest.approx(0.02)
    assert sum(fit.weights().values()) == pytest.approx(1)


def test_items_of_a_step_are_averaged_and_negatives_count_as_zero():
    rows = [(0, "a", 1.0), (0, "a", -3.0), (0, "b", 0.5), (1, "c", 0.2)]
    log = pa.table(dict(zip(EXCESS_LOG.names, zip(*rows, strict=True), strict=True)), schema=EXCESS_LOG)
    fit = fit_shares(log, PRIOR, RemixConfig(eta=1, smoothing=0, floor=0))
    first = np.array([3 * np.exp(0.5), 2 * np.exp(0.5), 5])
    np.testing.assert_allclose(fit.path[1], first / first.sum())
    second = first * [1, 1, np.exp(0.2)]
    np.testing.assert_allclose(fit.path[2], second / second.sum())


@pytest.mark.parametrize(
    ("log", "prior", "words"),
    [
        (EXCESS_LOG.empty_table(), PRIOR, "empty"),
        (_log(1, {"z": 1.0}), PRIOR, "'z'"),
        (_log(1, {"a": float("nan")}), PRIOR, "row 0"),
        (_log(1, {"a": 1.0}), {"a": 0.0}, "above 0"),
    ],
)
def test_a_bad_log_is_named(log, prior, words):
    with pytest.raises(UsageError, match=words):
        fit_shares(log, prior)


def test_floors_keep_proportions_and_must_fit():
    raised = raise_to_floor(np.array([0.001, 0.009, 0.33, 0.66]), 0.05)
    assert raised.sum() == pytest.approx(1)
    assert raised[:2].tolist() == [0.05, 0.05]
    assert raised[3] / raised[2] == pytest.approx(2)
    with pytest.raises(UsageError, match="cannot all"):
        raise_to_floor(np.full(4, 0.25), 0.3)
