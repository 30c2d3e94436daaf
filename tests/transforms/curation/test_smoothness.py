import numpy as np
import pytest

from tests.support.demos import demo, minimum_jerk, subject_of
from transforms.curation.metrics import METRICS
from transforms.curation.smoothness import envelope_deviation, log_dimensionless_jerk, sparc, sparc_of_numbers

BELL = np.exp(-5 * np.arange(-1, 1, 0.01) ** 2)


def test_the_reference_values_of_the_published_implementation() -> None:
    assert sparc(BELL, 100.0) == pytest.approx(-1.41403, abs=1e-5)
    assert log_dimensionless_jerk(BELL, 100.0) == pytest.approx(-5.81636, abs=1e-5)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_neither_knows_how_large_a_movement_is(scale: float) -> None:
    assert sparc(BELL * scale, 100.0) == pytest.approx(sparc(BELL, 100.0), abs=1e-9)
    assert log_dimensionless_jerk(BELL * scale, 100.0) == pytest.approx(log_dimensionless_jerk(BELL, 100.0), abs=1e-9)


def test_one_number_is_scored_as_its_speed_and_resting_numbers_do_not_count() -> None:
    alone = sparc_of_numbers(BELL[:, None], 100.0)
    assert alone == pytest.approx(sparc(BELL, 100.0))
    assert sparc_of_numbers(np.column_stack([BELL, np.zeros_like(BELL)]), 100.0) == pytest.approx(alone)
    twice = log_dimensionless_jerk(np.column_stack([BELL, BELL]), 100.0)
    assert twice == pytest.approx(log_dimensionless_jerk(BELL, 100.0))


def test_what_cannot_be_measured_is_none() -> None:
    assert sparc(np.zeros(50), 50.0) is None
    assert sparc(BELL, 10.0) is None
    assert log_dimensionless_jerk(np.zeros(50), 50.0) is None
    assert envelope_deviation(np.zeros((50, 3))) is None
    assert envelope_deviation(np.ones((5, 3))) is None


def test_a_minimum_jerk_movement_is_its_own_envelope() -> None:
    path = minimum_jerk(60)[:, None] * np.array([[1.0, -2.0, 0.5]])
    assert envelope_deviation(path) == pytest.approx(0, abs=1e-9)
    bent = path + 0.1 * np.sin(np.linspace(0, 40, 60))[:, None]
    assert envelope_deviation(bent) > 0.03


@pytest.fixture(scope="module")
def sets() -> tuple[list, list]:
    """Equally good demonstrations of 2 to 11 movements, and the same with tremor."""
    good = [subject_of(demo(i, noise=0.0005)) for i in range(60)]
    shaky = [subject_of(demo(1000 + i, noise=0.0005, shake=0.004)) for i in range(60)]
    return good, shaky


@pytest.mark.parametrize(("name", "whole", "least"), [("sparc", sparc_of_numbers, 0.97), ("ldlj", log_dimensionless_jerk, 0.8)])
def test_movements_do_away_with_length(sets: tuple[list, list], name: str, whole, least: float) -> None:
    """Sheet finding 7: on whole episodes these scores are length; by movement they are not, and see tremor far better."""
    good, shaky = sets
    length = np.array([len(s.signals.speed) for s in good])
    of_episodes = np.array([whole(s.signals.velocity, s.signals.hz) for s in good])
    of_movements = np.array([METRICS[name].compute(s).value for s in good])
    assert np.corrcoef(length, of_episodes)[0, 1] < -0.6
    assert abs(np.corrcoef(length, of_movements)[0, 1]) < 0.3
    bad_episodes = np.array([whole(s.signals.velocity, s.signals.hz) for s in shaky])
    bad_movements = np.array([METRICS[name].compute(s).value for s in shaky])
    assert (of_movements[:, None] > bad_movements).mean() > least
    assert (of_movements[:, None] > bad_movements).mean() > (of_episodes[:, None] > bad_episodes).mean()
