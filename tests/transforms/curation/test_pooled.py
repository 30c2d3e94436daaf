import numpy as np
import pytest

from transforms.curation.pooled import Progress, Reference, blur, progress_scores, progress_weight


def test_blur_is_relative_to_the_camera() -> None:
    told = {f"e{i}": {"sharp": 100.0 + i, "soft": 2.0} for i in range(5)} | {"bad": {"sharp": 102.0, "soft": 0.5}}
    found = blur(told)
    assert found["e2"].value == pytest.approx(102 / 102)
    assert found["bad"].value == pytest.approx(0.25)
    assert blur({"a": {"black": 0.0}})["a"].value is None


def test_joint_outliers_are_found_where_each_number_alone_is_usual() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 1))
    rows = np.concatenate([a, a + 0.1 * rng.normal(size=a.shape), rng.normal(size=a.shape)], 1)
    reference = Reference.fit(rows)
    assert float(np.median(reference.distance(rows))) == pytest.approx(0.9, abs=0.15)
    against = np.column_stack([np.ones(50), -np.ones(50), np.zeros(50)])  # each within one deviation, together impossible
    assert reference.score(against).value > 4 * reference.score(rows).value
    assert reference.score(against).detail["beyond"] == 1.0
    assert Reference.fit(rows[:10]) is None


def test_progress_is_seen_by_models_that_never_saw_the_group() -> None:
    rng = np.random.default_rng(1)
    done = np.linspace(0, 1, 60)
    forward = [np.column_stack([np.cos(done * 3), np.sin(done * 3)]) + 0.02 * rng.normal(size=(60, 2)) for _ in range(10)]
    backward = forward[0][::-1]
    states, groups = [*forward, backward], [f"g{i}" for i in range(11)]
    model = Progress.fit(states, [done] * 11, groups)
    gains = [model.gain(s, g, 0.1) for s, g in zip(states, groups, strict=True)]
    scores = progress_scores(gains)
    assert min(s.value for s in scores[:10]) > 0.1
    assert scores[10].value < -0.1
    assert scores[10].detail["backwards"] > 0.9
    assert scores[10].detail["weight"] < 0.1 < 0.9 < scores[0].detail["weight"]
    assert Progress.fit(states[:5], [done] * 5, groups[:5]) is None
    assert Progress.fit(states, [done] * 11, ["one"] * 11) is None


def test_ra_bc_weights_are_the_published_ones() -> None:
    gain = np.array([-0.1, 0.0, 0.005, 0.01, 0.02])
    mean, spread = 0.004, 0.002
    between = (gain - mean + 2 * spread) / (4 * spread + 1e-6)
    assert progress_weight(gain, mean, spread).tolist() == [0.0, *np.clip(between, 0, 1)[1:4].tolist(), 1.0]
