"""The honest gates in a world with closed forms: what must pass passes, and every twin that must fail fails."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from catalog.lake import Lake
from pipelines.residuals.adapter import AdapterConfig, train_adapter
from pipelines.residuals.gates import episode_errors, teacher_gate, utility_gate
from pipelines.residuals.store import Cache, open_cache
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.residuals import HERE, cache, stage_of, tiny_teacher
from tests.support.tower import ALONE, TOLD, best_error, tower_lake, tower_teacher

SMALL = AdapterConfig(
    ("v_base", "a_tau", "context"), width=32, time_dim=8, steps=120, batch=128, lr=5e-3, weights=(0.0, 1.0, 0.0), validate=0.2
)
LEARN, ALL = 12, 72


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = tower_lake(Lake.at(tmp_path_factory.mktemp("tower") / "lake"), episodes=ALL, steps=20)
    for name, underfit, shuffle in (("best", False, False), ("under", True, False), ("shuffled", True, True)):
        stage = stage_of(
            lake, tower_teacher(name, underfit=underfit), "tower", draws=1, context=("context",), shuffle_future=shuffle
        )
        assert not run_stage(stage, execution=HERE).rejects
    return lake


def column(cache_: Cache, name: str) -> np.ndarray:
    return cache_.take(np.arange(len(cache_)), [name])[name].astype(np.float64)


def test_stored_errors_are_those_of_the_closed_form(tower: Lake) -> None:
    best, under = open_cache(tower, "best"), open_cache(tower, "under")
    assert best_error(ALONE) == pytest.approx(1.27, abs=0.02)
    assert best_error(TOLD) == pytest.approx(0.467, abs=0.02)
    assert column(best, "gt_err_base").mean() == pytest.approx(best_error(ALONE), rel=0.04)
    assert column(best, "gt_err_teacher").mean() == pytest.approx(best_error(TOLD), rel=0.04)
    assert column(under, "gt_err_base").mean() == pytest.approx(2.18, rel=0.06)


def test_against_the_best_student_the_residual_averages_to_nothing(tower: Lake) -> None:
    best, under = open_cache(tower, "best"), open_cache(tower, "under")

    def held_out_r2(held: Cache) -> float:
        rows = held.take(np.arange(len(held)), ["v_base", "residual", "context", "noise", "action", "tau_a"])
        t = rows["tau_a"][:, None].astype(float)
        point = t * rows["noise"][:, 0] + (1 - t) * rows["action"][:, 0]
        seen = np.concatenate([rows["v_base"][:, 0].astype(float), rows["context"], point], 1)
        half, wanted = len(held) // 2, rows["residual"][:, 0].astype(float)
        fit = np.linalg.lstsq(seen[:half], wanted[:half], rcond=None)[0]
        return 1 - float(np.square(wanted[half:] - seen[half:] @ fit).sum() / np.square(wanted[half:]).sum())

    assert abs(held_out_r2(best)) < 0.05  # the tower property
    assert held_out_r2(under) > 0.3  # what the student left lying is to be had


def test_a_teacher_that_sees_the_future_is_better_and_a_shuffled_one_is_not(tower: Lake) -> None:
    good, bad = teacher_gate(open_cache(tower, "under")), teacher_gate(open_cache(tower, "shuffled"))
    assert (good.gate, bad.gate) == ("pass", "fail")
    assert good.ci95 is not None
    assert good.ci95[0] > 1
    assert (bad.value or 0) < 0


def test_an_adapter_of_few_data_gains_from_the_teacher_and_the_shuffled_twin_fails(tower: Lake) -> None:
    held, shuffled = open_cache(tower, "under"), open_cache(tower, "shuffled")
    parts = (list(range(LEARN)), list(range(LEARN, ALL)))
    report = utility_gate(held, shuffled, SMALL, parts)
    assert report.gate == "pass"
    base = report.baselines
    assert (report.value or 9) < base["ground_truth_only"] < base["base"]
    assert base["shuffled_future"] > base["base"] * 0.95
    assert base["random_target"] > (report.value or 9)
    twin = utility_gate(shuffled, held, replace(SMALL, steps=25), parts)
    assert twin.gate == "fail"
    assert utility_gate(held, None, AdapterConfig(width=8, time_dim=8, steps=1), parts).gate == "not-measurable"


def test_an_untrained_adapter_is_the_student(tower: Lake) -> None:
    held = open_cache(tower, "under")
    fresh = train_adapter(held, AdapterConfig(width=8, time_dim=8, steps=1, lr=0.0))
    assert np.array_equal(episode_errors(fresh, held, [0, 1])[0], episode_errors(None, held, [0, 1])[0])
    sums, counts = episode_errors(None, held, list(range(ALL)))
    assert sums.sum() / counts.sum() == pytest.approx(column(held, "gt_err_base").mean(), rel=1e-3)
    a, b = (train_adapter(held, AdapterConfig(width=8, time_dim=8, steps=3, seed=1)) for _ in range(2))
    assert a.losses == b.losses
    assert all(torch.equal(x, y) for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


def test_adapters_need_a_frozen_pair_and_the_inputs_they_ask_for(toy_mixture: Lake) -> None:
    cache(toy_mixture, tiny_teacher(name="adapt-live"), draws=1, mode="frozen_teacher_live_student")
    with pytest.raises(UsageError, match="trained from frozen_pair caches alone"):
        train_adapter(open_cache(toy_mixture, "adapt-live"))
    cache(toy_mixture, tiny_teacher(name="adapt"), draws=1)
    with pytest.raises(UsageError, match="keeps no context"):
        train_adapter(open_cache(toy_mixture, "adapt"), SMALL)
