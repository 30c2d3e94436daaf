"""Gates over arrays: an oracle passes, every adversarial twin fails, and the probes agree with scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from annotators.latent.gates.actions import judge, judge_actions, judge_groups, judge_leak, judge_motion
from annotators.latent.gates.codes import information_bits, judge_codes, perplexity
from annotators.latent.gates.evidence import Evidence
from annotators.latent.gates.pictures import picture_features
from annotators.latent.gates.probe import _parts, network_probe, ridge_probe
from tests.support.moving_square import evidence, pushes, scenes
from transforms.optical_flow import dense_flow, describe, grey

PAIRS = 240


def u8(pictures: np.ndarray) -> np.ndarray:
    return np.rint(pictures * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def base() -> Evidence:
    """A good latent: the push itself, mixed and noisy; beside it flow and an untrained network's answer."""
    film, rng = pushes(PAIRS, 2, 5), np.random.default_rng(0)
    action = film.action[:, 0]
    latent = (action / 4) @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(PAIRS, 6))
    shown = scenes(film)
    flow = np.stack([describe(dense_flow(grey(u8(a)), grey(u8(b)))) for a, b in zip(shown.first, shown.second, strict=True)])
    untrained = np.tanh(picture_features(shown.second) @ rng.normal(size=(192, 6)))
    return evidence(film, latent, random=untrained.astype(np.float32), flow=flow)


def test_a_good_latent_passes_beside_every_baseline(base: Evidence) -> None:
    linear = judge_actions(base, network=False)[0]
    assert linear.gate == "pass"
    assert linear.baselines.keys() == {"frame_t", "permuted", "state", "flow_latent", "random_init", "raw_pair"}
    low, high = linear.ci95 or (1.0, 0.0)
    assert low < (linear.value or 0.0) < high
    assert low > 0.8
    assert abs(linear.baselines["permuted"]) < 0.05
    assert abs(linear.baselines["frame_t"]) < 0.05
    assert linear.baselines["raw_pair"] > 0.8
    assert linear.detail["informativeness"] == pytest.approx(
        (linear.value - linear.baselines["frame_t"]) / (linear.baselines["raw_pair"] - linear.baselines["frame_t"])
    )


@pytest.mark.parametrize("twin", ["shuffled", "copy_collapsed", "random_init", "frame_only"])
def test_adversarial_twins_fail(base: Evidence, twin: str) -> None:
    twins = {
        "shuffled": base.shuffled(),
        "copy_collapsed": replace(base, latent=np.full_like(base.latent, 0.5)),
        "random_init": replace(base, latent=base.random),
        "frame_only": replace(base, latent=base.first),
    }
    assert judge_actions(twins[twin], network=False)[0].gate == "fail"


def test_the_network_reads_what_no_line_can() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    features = rng.uniform(-1, 1, (400, 2))
    product = features[:, :1] * features[:, 1:]
    episode, names = np.arange(400) // 20, tuple(map(str, range(20)))
    line = ridge_probe(features, product, episode, names).r2
    net = network_probe(features, product, episode, names, width=24, rounds=20).r2
    noise = network_probe(rng.normal(size=features.shape), product, episode, names, width=8, rounds=3).r2
    assert line < 0.1
    assert net > 0.8
    assert abs(noise) < 0.1


def test_ridge_is_scikit_learns_on_the_same_rows() -> None:
    rng = np.random.default_rng(2)
    x, names, episode = rng.normal(size=(300, 5)), tuple(map(str, range(30))), np.arange(300) // 10
    y = x[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(300, 3))
    found = ridge_probe(x, y, episode, names)
    missed = spread = 0.0
    for fit, _, test in _parts(episode, names):
        model = Ridge(alpha=1e-3 * fit.sum()).fit(x[fit], (y[fit] - y[fit].mean(0)) / y[fit].std(0))
        target = (y[test] - y[fit].mean(0)) / y[fit].std(0)
        missed += np.square(model.predict(x[test]) - target).sum()
        spread += np.square(target).sum()
    assert found.r2 == pytest.approx(1 - missed / spread, abs=0.01)
    assert found.per_dimension.mean() == pytest.approx(found.r2, abs=0.02)


def test_no_episode_helps_to_predict_itself() -> None:
    names = tuple(map(str, range(20)))
    episode = np.repeat(np.arange(20), 10)
    for fit, check, test in _parts(episode, names):
        kinds = [set(episode[part]) for part in (fit, check, test)]
        assert sum(map(len, kinds)) == len(set.union(*kinds)) == 20
    private = np.random.default_rng(0).normal(size=(20, 1))[episode]  # an episode's own constant
    assert ridge_probe(np.eye(20)[episode], private, episode, names).r2 < 0.1


def test_a_latent_that_holds_the_next_picture_leaks(base: Evidence) -> None:
    assert judge_leak(base).gate == "pass"
    assert judge_leak(replace(base, latent=base.second)).gate == "fail"


def test_the_size_of_the_latent_follows_the_flow(base: Evidence) -> None:
    assert base.flow is not None
    assert judge_motion(replace(base, latent=base.flow)).gate == "pass"
    assert judge_motion(base.shuffled()).gate == "fail"
    assert judge_motion(replace(base, flow=None)).gate == "not-measurable"


def test_a_latent_that_knows_the_robot_says_so(base: Evidence) -> None:
    robot = [f"robot-{e % 2}" for e in base.episode]
    known = replace(base, latent=np.array([[float(r == "robot-1")] for r in robot], np.float32))
    told, blind = judge_groups(known, robot, "embodiment"), judge_groups(base, robot, "embodiment")
    assert told.value == 1.0
    assert (blind.value or 1.0) < 0.7
    assert judge_groups(base, ["one"] * PAIRS, "embodiment").gate == "not-measurable"


def test_codes_must_be_used_and_must_say_something(base: Evidence) -> None:
    octant = ((np.arctan2(base.action[:, 1], base.action[:, 0]) + np.pi) / (2 * np.pi) * 7.999).astype(np.int64)
    told = judge_codes(replace(base, code=octant, codes=8))
    assert told.gate == "pass"
    assert (told.value or 0.0) > 1.0
    assert told.detail["perplexity"] > 7
    assert judge_codes(replace(base, code=octant, codes=8).shuffled()).gate == "fail"  # well used, and says nothing
    dead = judge_codes(replace(base, code=np.zeros_like(octant), codes=8))
    assert (dead.gate, dead.detail["perplexity"]) == ("fail", 1.0)
    assert judge_codes(base).gate == "not-measurable"


def test_bits_have_closed_forms() -> None:
    assert perplexity(np.full(16, 1 / 16)) == pytest.approx(16)
    assert information_bits(np.eye(4)[None]) == pytest.approx([2.0])
    assert information_bits(np.ones((1, 4, 4))) == pytest.approx([0.0], abs=1e-12)


def test_too_little_is_not_measurable(base: Evidence) -> None:
    few = base.take(base.episode < 2)
    assert {r.gate for r in judge(few, network=False)} == {"not-measurable"}
