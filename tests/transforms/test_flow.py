"""Every convention round-trips: an oracle that knows action and noise only through a policy's own formula gives e - a, and Euler a."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines.residuals.conventions import CONVENTIONS, convention
from schemas.errors import UnknownNameError
from transforms.flow import Convention, ddpm_noisy, ddpm_velocity, euler, noisy, target

RNG = np.random.default_rng(0)
ACTION, NOISE = (RNG.integers(-64, 64, (3, 4, 2)) / 32 for _ in range(2))  # dyadic, so that Euler in 16 steps has no rounding
FLOWS = [name for name, c in CONVENTIONS.items() if c.kind == "flow"]


def oracle(name: str, sigma_min: float = 0.0) -> Callable[[Any, Any], Any]:
    """A policy's velocity at its own point and time, from its own published path: whoever passes the wrong time gets another one."""

    def pi(x: Any, time: Any) -> Any:  # x = t e + (1 - t) a, v = e - a
        return (x - ACTION) / time

    def wan(x: Any, time: Any) -> Any:  # sigma = timestep / 1000
        return (x - ACTION) / (time / 1000)

    def reversed_(x: Any, time: Any) -> Any:  # x = (1 - t) e + t a, v = a - e
        return (ACTION - x) / (1 - time)

    def dit(x: Any, time: Any) -> Any:  # x = t a + (1 - (1 - s) t) e, v = a - (1 - s) e
        e = (x - time * ACTION) / (1 - (1 - sigma_min) * time)
        return ACTION - (1 - sigma_min) * e

    if name in ("canonical", "pi0", "pi05", "smolvla", "eo1"):
        return pi
    if name in ("fastwam", "lingbot_va"):
        return wan
    return dit if name == "multi_task_dit" else reversed_


def canonical(c: Convention, native: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def velocity(x: Any, t: Any) -> Any:
        point, time = c.to_native(x, t)
        return c.to_canonical(native(point, time), point, time)

    return velocity


@pytest.mark.parametrize("name", FLOWS)
def test_an_oracle_gives_noise_minus_action_at_every_time(name: str) -> None:
    velocity = canonical(convention(name), oracle(name))
    for t in (0.125, 0.5, 0.875):
        assert velocity(noisy(ACTION, NOISE, t), t) == pytest.approx(NOISE - ACTION, abs=1e-12)


@pytest.mark.parametrize("name", FLOWS)
def test_euler_from_noise_returns_the_action(name: str) -> None:
    velocity = canonical(convention(name), lambda _x, _t: convention(name).sign * (NOISE - ACTION))
    assert np.array_equal(euler(velocity, NOISE, 16), ACTION)  # exactly


@pytest.mark.parametrize("name", FLOWS)
def test_the_wrong_sign_or_time_is_noticed(name: str) -> None:
    c = convention(name)
    flipped = Convention("flow", c.tau_is_noise, -c.sign, c.timesteps)
    turned = Convention("flow", not c.tau_is_noise, c.sign, c.timesteps)
    for wrong in (flipped, turned):
        velocity = canonical(wrong, oracle(name))
        assert abs(velocity(noisy(ACTION, NOISE, 0.25), 0.25) - (NOISE - ACTION)).max() > 0.1


@pytest.mark.parametrize("sigma_min", [0.001, 0.1])
def test_noise_left_at_the_data_end_is_corrected_for(sigma_min: float) -> None:
    c = Convention("flow", tau_is_noise=False, sign=-1, sigma_min=sigma_min)
    velocity = canonical(c, oracle("multi_task_dit", sigma_min))
    for t in (0.25, 0.75, 1.0):
        assert velocity(noisy(ACTION, NOISE, t), t) == pytest.approx(NOISE - ACTION, abs=1e-9)
    assert euler(velocity, NOISE, 16) == pytest.approx(ACTION, abs=1e-9)


def test_a_ddpm_prediction_implies_a_velocity_at_its_own_level() -> None:
    for alpha_bar in (0.99, 0.3):
        x = ddpm_noisy(ACTION, NOISE, alpha_bar)
        assert ddpm_velocity(NOISE, x, alpha_bar) == pytest.approx(NOISE - ACTION, abs=1e-12)
    assert target("ddpm_eps", ACTION, NOISE) is NOISE
    assert target("ddpm_sample", ACTION, NOISE) is ACTION
    assert target("regression", ACTION, NOISE) is ACTION


def test_an_unknown_policy_is_never_guessed() -> None:
    with pytest.raises(UnknownNameError, match="did you mean smolvla"):
        convention("smolvlm")
