import numpy as np
import pytest
from scipy import stats

from schemas.errors import UsageError
from transforms.draws import strata

UNIT = np.linspace(0, 1, 1001)[:-1]


def test_samplers_are_the_quantile_functions_of_their_policies() -> None:
    beta = stats.beta.ppf(UNIT, 1.5, 1.0)
    assert strata("beta(1.5, 1, 0.999, 0.001)", UNIT, 0, 1) == pytest.approx(beta * 0.999 + 0.001, abs=1e-12)
    assert strata("flipped_beta(1.5,1,0.999)", UNIT, 0, 1) == pytest.approx(1 - 0.999 * (1 - beta), abs=1e-12)
    shifted = strata("shifted(5)", (np.arange(10_000) + 0.5) / 10_000, 0, 1)
    assert shifted.mean() == pytest.approx(0.747, abs=5e-4)  # published for FastWAM's schedule
    assert np.median(shifted) == pytest.approx(0.833, abs=5e-4)
    steps = strata("steps(100)", UNIT, 0, 1)
    assert set(np.round(steps * 100)) == set(range(100))


def test_strata_share_the_range_evenly() -> None:
    unit = np.random.default_rng(0).random((300, 4))
    tau = strata("uniform", unit, np.arange(4), 4)
    assert ((tau * 4).astype(int) == np.arange(4)).all()
    assert tau.std() == pytest.approx(12**-0.5, abs=0.01)
    assert strata("grid(0.2,0.8)", unit, np.arange(4), 4)[0].tolist() == [0.2, 0.8, 0.2, 0.8]
    assert strata("fixed(0.5)", unit, 0, 1).tolist() == np.full((300, 4), 0.5).tolist()


@pytest.mark.parametrize(
    "text", ["gauss", "beta(1,2)", "beta(a,b,c,d)", "fixed(2)", "shifted(-1)", "grid()", "steps(0)", "uniform(1"]
)
def test_an_impossible_sampler_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="sampler"):
        strata(text, UNIT, 0, 1)
