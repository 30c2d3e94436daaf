"""Gates of imagination on a world whose model is known: things shift. Copiers, leakers and deaf models fail where they should."""

from dataclasses import dataclass

import numpy as np
import pytest

from annotators.latent.gates.dreams import Scenes, judge_dreams

SIDE, PAIRS, EPISODES = 16, 60, 15


@dataclass(frozen=True)
class Shifts:
    """Knows how the world works: the picture is rolled by the latent, which is found by trying."""

    noise: float = 0.0

    def infer(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        tries = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
        errors = np.stack([np.abs(np.roll(first, t, (1, 2)) - second).mean((1, 2, 3)) for t in tries], 1)
        return np.array(tries, np.float32)[errors.argmin(1)]

    def imagine(self, first: np.ndarray, latent: np.ndarray) -> np.ndarray:
        moves = np.rint(latent).astype(int)
        made = np.stack([np.roll(p, tuple(m), (0, 1)) for p, m in zip(first, moves, strict=True)])
        return np.clip(made + self.noise * np.random.default_rng(0).normal(size=made.shape), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Copies(Shifts):
    def imagine(self, first: np.ndarray, latent: np.ndarray) -> np.ndarray:
        return first


@dataclass(frozen=True)
class Leaks(Shifts):
    """Carries the whole second picture in its latent."""

    def infer(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return second.reshape(len(second), -1)

    def imagine(self, first: np.ndarray, latent: np.ndarray) -> np.ndarray:
        return (latent.reshape(first.shape) + 0.02).clip(0, 1)


@dataclass(frozen=True)
class Deaf(Shifts):
    """Shifts always to the right, whatever the latent says."""

    def imagine(self, first: np.ndarray, latent: np.ndarray) -> np.ndarray:
        return np.roll(first, 1, 2)


@pytest.fixture(scope="module")
def world() -> Scenes:
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 1, (PAIRS, SIDE, SIDE, 3)).astype(np.float32)
    moves = rng.integers(-3, 4, (PAIRS, 2))
    second = np.stack([np.roll(p, tuple(m), (0, 1)) for p, m in zip(first, moves, strict=True)])
    return Scenes(first, second, np.arange(PAIRS) % EPISODES, EPISODES)


def gates(model: Shifts, world: Scenes) -> dict[str, str]:
    return {r.metric: r.gate for r in judge_dreams(model, world)}


def test_a_model_of_the_world_passes_everything(world: Scenes) -> None:
    reports = {r.metric: r for r in judge_dreams(Shifts(0.02), world)}
    assert {r.gate for r in reports.values()} == {"pass"}
    assert reports["gain_on_changed"].value == pytest.approx(0.95, abs=0.05)
    assert reports["cycle_ratio"].value == pytest.approx(1.0, abs=0.02)
    assert reports["cycle_latent_error"].value == 0.0
    assert reports["cycle_latent_error"].baselines["shuffled"] > 0.5


def test_a_copier_gains_nothing_and_so_its_perfect_cycle_does_not_count(world: Scenes) -> None:
    found = gates(Copies(), world)
    assert found["gain_on_changed"] == "fail"
    assert found["cycle_ratio"] == found["cycle_latent_error"] == "not-measurable"


def test_a_leaker_is_caught_by_the_scene_cut(world: Scenes) -> None:
    reports = {r.metric: r for r in judge_dreams(Leaks(), world)}
    assert reports["gain_on_changed"].gate == "pass"
    assert reports["scene_cut_ratio"].gate == "fail"
    assert reports["scene_cut_ratio"].value == pytest.approx(1.0, abs=0.02)


def test_a_deaf_model_is_caught_by_shuffling(world: Scenes) -> None:
    assert gates(Deaf(), world)["shuffle_ratio"] == "fail"


def test_other_pairs_are_of_other_episodes(world: Scenes) -> None:
    other = world.others()
    assert sorted(other) == list(range(PAIRS))
    assert (world.episode[other] != world.episode).all()


def test_a_handful_of_pictures_is_not_measured(world: Scenes) -> None:
    few = Scenes(world.first[:8], world.second[:8], world.episode[:8], EPISODES)
    assert {r.gate for r in judge_dreams(Shifts(), few)} == {"not-measurable"}
