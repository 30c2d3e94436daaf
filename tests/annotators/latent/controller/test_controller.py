"""Controllers on a world whose latents are known functions of actions: gates pass, twins fail, files come back as they were."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from annotators.latent.controller.evaluation import Intervals, judge_controller, judge_rollout, split
from annotators.latent.controller.model import Controller, ControllerSpec, fit_controller, interval_actions, load_controller
from annotators.latent.gates.dreams import Scenes
from schemas.errors import UsageError

SPEC = ControllerSpec(samples=3, width=16, heads=2, layers=1, steps=140, batch=64, rate=6e-3)
NAMES = tuple(f"episode-{e}" for e in range(20))


def world(shuffle: bool = False) -> Intervals:
    """Latents are mean actions mixed by the state's sign, and noise."""
    rng = np.random.default_rng(0)
    actions = np.repeat(rng.normal(size=(400, 1, 2)), 3, 1) + 0.1 * rng.normal(size=(400, 3, 2))
    state = rng.normal(size=(400, 2))
    mean = actions.mean(1) * np.where(state[:, :1] > 0, 1.0, -1.0)
    latents = mean @ rng.normal(size=(2, 4)) + 0.05 * rng.normal(size=(400, 4))
    if shuffle:
        latents = latents[rng.permutation(400)]
    return Intervals(*(x.astype(np.float32) for x in (actions, state, latents)), np.arange(400) // 20)


@pytest.fixture(scope="module")
def trained() -> tuple[Controller, Intervals, Intervals]:
    torch.set_num_threads(1)
    every = world()
    fit, held = split(NAMES, every.episode)
    fitted, heldout = every.take(fit), every.take(held)
    return fit_controller(fitted.actions, fitted.state, fitted.latents, SPEC), fitted, heldout


def test_a_known_world_is_steered_both_ways(trained: tuple[Controller, Intervals, Intervals]) -> None:
    controller, fitted, heldout = trained
    assert not set(fitted.episode) & set(heldout.episode)
    reports = {r.metric: r for r in judge_controller(controller, fitted, heldout)}
    assert {r.gate for r in reports.values()} == {"pass"}
    assert all(r.baselines.keys() == {"shuffled", "state"} for r in reports.values())
    assert (reports["controller_latent_r2"].value or 0) > 0.7
    assert (reports["controller_round_trip_r2"].value or 0) > 0.6
    assert reports["controller_latent_r2"].baselines["state"] < 0.2


def test_latents_that_have_nothing_to_do_with_actions_fail() -> None:
    torch.set_num_threads(1)
    every = world(shuffle=True)
    fit, held = split(NAMES, every.episode)
    fitted, heldout = every.take(fit), every.take(held)
    quick = ControllerSpec(samples=3, width=8, heads=1, layers=1, steps=30, batch=64)
    controller = fit_controller(fitted.actions, fitted.state, fitted.latents, quick)
    assert {r.gate for r in judge_controller(controller, fitted, heldout)} == {"fail"}


class Shifts:
    """Rolls pictures across by the first number of the latent."""

    def infer(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        raise AssertionError("a rollout is driven by actions")

    def imagine(self, first: np.ndarray, latent: np.ndarray) -> np.ndarray:
        return np.stack([np.roll(p, round(float(z[0])), 1) for p, z in zip(first, latent, strict=True)])


def test_a_world_model_is_driven_by_real_actions() -> None:
    rng = np.random.default_rng(1)
    by = rng.integers(-2, 3, 80)
    pictures = rng.uniform(0, 1, (80, 8, 8, 3)).astype(np.float32)
    later = np.stack([np.roll(p, b, 1) for p, b in zip(pictures, by, strict=True)])
    z = by[:, None].astype(np.float32)
    held = Intervals(np.repeat(z[:, None], 3, 1), np.zeros((80, 0), np.float32), z, np.arange(80) // 8)
    scenes = Scenes(pictures, later, held.episode, 10)
    spec = ControllerSpec(samples=3, width=8, heads=1, layers=1, steps=60, batch=80, rate=2e-2)
    told = judge_rollout(fit_controller(held.actions, held.state, z, spec), Shifts(), scenes, held)
    assert told.gate == "pass"
    assert (told.value or 0) > 0.8
    assert told.baselines["own"] == 1.0
    blind = judge_rollout(fit_controller(held.actions, held.state, z[rng.permutation(80)], spec), Shifts(), scenes, held)
    assert blind.gate == "fail"


def test_a_file_gives_the_same_controller_back(trained: tuple[Controller, Intervals, Intervals], tmp_path: Path) -> None:
    controller, _, heldout = trained
    controller.save(tmp_path / "c.safetensors")
    again = load_controller(tmp_path / "c.safetensors")
    assert again.spec == SPEC
    assert np.array_equal(again.to_latents(heldout.actions, heldout.state), controller.to_latents(heldout.actions, heldout.state))
    assert np.array_equal(again.to_actions(heldout.latents, heldout.state), controller.to_actions(heldout.latents, heldout.state))
    save_file({"x": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(UsageError, match="no latent controller"):
        load_controller(tmp_path / "other.safetensors")


def test_training_is_named_by_its_seed_and_leaves_the_global_one_alone() -> None:
    torch.set_num_threads(1)
    every, quick = world(), ControllerSpec(samples=3, width=8, heads=1, layers=1, steps=3, batch=32)
    before = torch.random.get_rng_state()
    one, other = (fit_controller(every.actions, every.state, every.latents, quick) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(one.to_latents(every.actions, every.state), other.to_latents(every.actions, every.state))


def test_actions_of_an_interval_are_spread_evenly() -> None:
    action = np.arange(20, dtype=np.float64)[:, None]
    found = interval_actions(action, np.array([0, 4, 10]), np.array([8, 6, 11]), 4)[:, :, 0]
    assert found.tolist() == [[1, 3, 5, 7], [4, 4, 5, 5], [10, 10, 10, 10]]


def test_too_few_intervals_or_odd_sizes_are_refused() -> None:
    few = world().take(np.arange(8))
    with pytest.raises(UsageError, match="32 or more"):
        fit_controller(few.actions, few.state, few.latents)
    with pytest.raises(UsageError, match="multiple of heads"):
        ControllerSpec(width=10, heads=4)
