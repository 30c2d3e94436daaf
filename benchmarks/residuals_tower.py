"""The closed-form world in full: what a residual cache is worth where best student, best teacher and floor are known exactly.

`tests/pipelines/residuals/test_gates.py` holds a small version. Printed are the stored errors against their closed forms, and the
error of an adapter from the teacher's residual against one from the truth alone, for several amounts of data, with the controls.
Run `python -m benchmarks.residuals_tower`.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import goal, main
from catalog.lake import Lake
from pipelines.residuals.adapter import AdapterConfig
from pipelines.residuals.gates import utility_gate
from pipelines.residuals.store import Cache, open_cache
from pipelines.unit import run_stage
from tests.support.residuals import HERE, stage_of
from tests.support.tower import ALONE, TOLD, best_error, tower_lake, tower_teacher

STEPS = 20


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sizes, episodes = ((10,), 80) if quick else ((10, 50, 250), 400)
    with tempfile.TemporaryDirectory(prefix="cotrain-tower-") as folder:
        lake = tower_lake(Lake.at(Path(folder) / "lake"), episodes=episodes, steps=STEPS)
        caches = {name: cached(lake, name, **how) for name, how in KINDS.items()}
        results, goals = errors(caches)
        for size in sizes:
            row = worth(caches, size, episodes, 150 if quick else 400)
            results.append(row)
            goals.append(goal(f"gate_at_{size * STEPS}_rows", "pass", row["adapter"], row["gate"] == "pass"))
    return results, goals


KINDS: dict[str, dict[str, bool]] = {
    "best": {"underfit": False, "shuffle": False}, "under": {"underfit": True, "shuffle": False}, "shuffled": {"underfit": True, "shuffle": True},
}  # fmt: skip


def cached(lake: Lake, name: str, *, underfit: bool, shuffle: bool) -> Cache:
    teacher = tower_teacher(name, underfit=underfit)
    report = run_stage(stage_of(lake, teacher, "tower", draws=1, context=("context",), shuffle_future=shuffle), execution=HERE)
    assert not report.rejects
    return open_cache(lake, name)


def errors(caches: dict[str, Cache]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compare what the caches stored with the closed forms."""

    def mean(name: str, column: str) -> float:
        return float(caches[name].take(np.arange(len(caches[name])), [column])[column].astype(np.float64).mean())

    floor, told = best_error(ALONE), best_error(TOLD)
    found = {
        "best_student": mean("best", "gt_err_base"), "teacher": mean("best", "gt_err_teacher"), "underfit_student": mean("under", "gt_err_base"),
        "shuffled_teacher": mean("shuffled", "gt_err_teacher"),
    }  # fmt: skip
    row = {
        "case": "stored errors",
        "floor": round(floor, 4),
        "floor_of_teacher": round(told, 4),
        **{k: round(v, 4) for k, v in found.items()},
    }
    away = max(abs(found["best_student"] / floor - 1), abs(found["teacher"] / told - 1))
    return [row], [goal("stored_errors_over_closed_form", "within 3 %", away, away < 0.03)]


def worth(caches: dict[str, Cache], size: int, episodes: int, steps: int) -> dict[str, Any]:
    """Train on `size` episodes, judge on the last quarter."""
    config = AdapterConfig(
        ("v_base", "a_tau", "context"),
        width=64,
        time_dim=8,
        steps=steps,
        batch=128,
        lr=3e-3,
        weights=(0.0, 1.0, 0.0),
        validate=0.2,
    )
    parts = (list(range(size)), list(range(episodes * 3 // 4, episodes)))
    found = utility_gate(caches["under"], caches["shuffled"], config, parts)
    rounded = {name: round(value, 3) for name, value in found.baselines.items()}
    return {
        "case": "adapter", "rows": size * STEPS, "gate": found.gate, "adapter": round(found.value or 0, 3), **rounded,
        "gain_over_truth_ci95": [round(v, 4) for v in found.detail["gain_over_ground_truth_only_ci95"]],
    }  # fmt: skip


if __name__ == "__main__":
    main("residuals_tower", __doc__ or "", run)
