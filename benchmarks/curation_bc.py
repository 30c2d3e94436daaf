"""Does curation help a policy? Behaviour cloning on what each score keeps of the same demonstrations, against random, by success.

A point is to be brought to the plate that the instruction names, of two. Half of the demonstrations shake (perturbation), or a third
goes to the other plate (structural): two pools. Every method keeps the same number of demonstrations of the same pool; seeds pair pools, initial
weights and test scenes. Success has Wilson intervals over all rollouts; against random, a sign-flip test over seeds, corrected by Holm
over methods.

    python benchmarks/curation_bc.py [--quick] [--json]
"""

import itertools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import goal, main
from pipelines.curate.pooled import joint_rows
from schemas.contract import Contract, Feature
from schemas.shards import steps_schema
from transforms.curation.metrics import METRICS
from transforms.curation.pooled import Reference
from transforms.curation.score import Subject
from transforms.curation.segments import movements
from transforms.curation.signals import read_signals
from transforms.intervals import wilson
from transforms.lint.base import Evidence

HZ, LONGEST, NEAR = 20, 80, 0.15
POOL, KEPT, TESTS, EPOCHS, HIDDEN = 120, 40, 100, 150, 64
POOLS = {"perturbation": ("good", "shaky"), "structural": ("good", "good", "wrong")}
SCORES = ("sparc", "ldlj", "envelope", "idle", "consistency", "joined")
STATE, ACTION = 7, 2  # point, red plate, blue plate, which one; velocity
CONTRACT = Contract(
    "toy", "sim", "point", float(HZ),
    features=(
        Feature("observation.state", "float32", (2,), ("x", "y"), role="state", representation="absolute"),
        Feature("action", "float32", (2,), ("x", "y"), role="action", representation="velocity"),
    ),
)  # fmt: skip


def main_run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    seeds = 5 if quick else 12
    rows: list[dict[str, Any]] = []
    goals: list[dict[str, Any]] = []
    for pool, families in POOLS.items():
        found = experiment(pool, families, seeds)
        rows += found
        best = max((r for r in found if r["kept by"] in SCORES), key=lambda r: r["success"])
        better = best["p_holm"] < 0.05 and best["over_random"] > 0
        goals.append(goal(f"{pool}: kept by {best['kept by']} against random", "p < .05 after Holm", best["p_holm"], better))
    return rows, goals


def experiment(pool_name: str, families: tuple[str, ...], seeds: int) -> list[dict[str, Any]]:
    """Compare every method on one kind of pool."""
    success: dict[str, list[int]] = {}
    for seed in range(seeds):
        pool = [demonstration(families, seed, i) for i in range(POOL)]
        chosen = selections(pool, seed)
        for name, count in zip(chosen, train_and_test(pool, list(chosen.values()), seed), strict=True):
            success.setdefault(name, []).append(count)
    rows = [{"pool": pool_name, **row(name, won, success["random"], seeds)} for name, won in success.items()]
    told = holm({r["kept by"]: r["p"] for r in rows if r["kept by"] not in ("random", "oracle")})
    return [r | {"p_holm": round(told[r["kept by"]], 4) if r["kept by"] in told else None} for r in rows]


def demonstration(families: tuple[str, ...], seed: int, index: int) -> dict[str, Any]:
    """Return one demonstration: its family, states float[T, 7] and actions float[T, 2]."""
    chance = np.random.Generator(np.random.Philox([seed, index]))
    family = families[index % len(families)]
    point, red, blue, wanted = scene(chance)
    goal_at = (red, blue)[wanted if family != "wrong" else 1 - wanted]
    fast, phase, states, actions = chance.uniform(0.8, 1.2), chance.uniform(0, 6.28), [], []
    while len(states) < LONGEST and (len(states) < 12 or np.linalg.norm(goal_at - point) > NEAR / 3):
        away = goal_at - point
        velocity = away * min(fast / max(float(np.linalg.norm(away)), 1e-9), 3.0)
        if family == "shaky":
            swing = phase + 2 * math.pi * 4 * len(states) / HZ
            velocity = velocity + 0.7 * np.array([math.sin(swing), math.cos(swing)]) + chance.normal(size=2) * 0.5
        states.append([*point, *red, *blue, 2.0 * wanted - 1])
        actions.append(velocity)
        point = point + velocity / HZ
    return {"family": family, "states": np.array(states, np.float32), "actions": np.array(actions, np.float32)}


def scene(chance: np.random.Generator) -> tuple[Any, Any, Any, int]:
    """Where the point starts, where the two plates are, and which one is wanted."""
    point, red, blue = chance.uniform(-1, 1, (3, 2))
    return point, red, blue, int(chance.integers(2))


def selections(pool: list[dict[str, Any]], seed: int) -> dict[str, list[int]]:
    """Return the demonstrations each method keeps, KEPT each."""
    subjects = [subject(d, i) for i, d in enumerate(pool)]
    rows = [joint_rows(s.evidence) for s in subjects]
    reference = Reference.fit(np.concatenate(rows))
    assert reference is not None
    values = {m: [METRICS[m].compute(s).value for s in subjects] for m in ("sparc", "ldlj", "envelope", "idle")}
    values["consistency"] = [reference.score(r).value for r in rows]
    better = {m: (1 if METRICS[m].better == "more" else -1) * np.array(v, np.float64) for m, v in values.items()}
    better["joined"] = sum(np.argsort(np.argsort(better[m])) for m in ("ldlj", "envelope", "consistency")).astype(float)
    length = np.array([len(d["states"]) for d in pool], float)
    chance = np.random.Generator(np.random.Philox([seed, 1 << 20]))
    good = np.array([d["family"] == "good" for d in pool], float) + 0.1 * chance.random(len(pool))
    every = {"random": chance.random(len(pool)), **better, "longest": length, "shortest": -length, "oracle": good}
    return {name: np.argsort(-np.nan_to_num(v, nan=-np.inf), kind="stable")[:KEPT].tolist() for name, v in every.items()}


def subject(demo: Mapping[str, Any], index: int) -> Subject:
    """Return a demonstration as scores see it."""
    count = len(demo["states"])
    values = {"observation.state": demo["states"][:, :2], "action": demo["actions"]}
    columns: dict[str, Any] = {
        "episode_id": pa.array([f"ep-{index}"] * count).dictionary_encode(), "step": np.arange(count, dtype=np.int32),
        "t_ns": np.arange(count, dtype=np.int64) * (1_000_000_000 // HZ), "is_first": np.arange(count) == 0,
        "is_last": np.arange(count) == count - 1, "is_terminal": np.zeros(count, bool),
    }  # fmt: skip
    for name, rows in values.items():
        columns[name] = pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(rows, np.float32).reshape(-1)), rows.shape[1]
        )
    schema = steps_schema(CONTRACT)
    steps = pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)
    it = Evidence(CONTRACT, steps)
    signals = read_signals(it)
    return Subject(it, signals, movements(signals) if signals is not None else ())


def train_and_test(pool: list[dict[str, Any]], chosen: list[list[int]], seed: int) -> list[int]:
    """Clone each selection with equal initial weights, all at once, and count successes in TESTS scenes."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rows = 1024
    chance = np.random.Generator(np.random.Philox([seed, 1 << 21]))
    inputs, targets = [], []
    for keep in chosen:
        x = np.concatenate([pool[i]["states"] for i in keep])
        y = np.concatenate([pool[i]["actions"] for i in keep])
        at = chance.integers(0, len(x), rows)
        inputs.append(x[at])
        targets.append(y[at])
    x, y = torch.tensor(np.stack(inputs)), torch.tensor(np.stack(targets))
    sizes = (STATE, HIDDEN, HIDDEN, ACTION)
    first = [torch.randn(1, a, b) / math.sqrt(a) for a, b in itertools.pairwise(sizes)]
    weights = [w.repeat(len(chosen), 1, 1).requires_grad_() for w in first]
    biases = [torch.zeros(len(chosen), 1, b, requires_grad=True) for b in sizes[1:]]
    optimiser = torch.optim.Adam([*weights, *biases], lr=3e-3)
    for _ in range(EPOCHS):
        for at in range(0, rows, 256):
            loss = ((policy(x[:, at : at + 256], weights, biases) - y[:, at : at + 256]) ** 2).mean((1, 2)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        return rollouts(lambda s: policy(torch.tensor(s), weights, biases).numpy(), len(chosen), seed)


def policy(x: Any, weights: list[Any], biases: list[Any]) -> Any:
    """A perceptron per selection: x [S, n, 7] to [S, n, 2]."""
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ w + b
        if layer < len(weights) - 1:
            x = x.relu()
    return x


def rollouts(act: Any, policies: int, seed: int) -> list[int]:
    """Play every policy in the same scenes; success: at the end the point is on the wanted plate and not on the other."""
    scenes = [scene(np.random.Generator(np.random.Philox([seed, i, 1]))) for i in range(TESTS)]
    start, red, blue = (np.stack([s[k] for s in scenes]) for k in (0, 1, 2))
    wanted = np.array([s[3] for s in scenes])
    fixed = np.concatenate([red, blue, 2.0 * wanted[:, None] - 1], 1)
    point = np.repeat(start[None], policies, 0)
    for _ in range(LONGEST):
        states = np.concatenate([point, np.broadcast_to(fixed, (policies, *fixed.shape))], -1).astype(np.float32)
        point = point + act(states) / HZ
    away = [np.linalg.norm(point - plate, axis=-1) for plate in (red, blue)]
    mine, other = np.where(wanted == 0, away[0], away[1]), np.where(wanted == 0, away[1], away[0])
    return ((mine < NEAR) & (mine < other)).sum(1).tolist()


def row(name: str, won: list[int], random: list[int], seeds: int) -> dict[str, Any]:
    low, high = wilson(sum(won), seeds * TESTS)
    differences = np.array(won) - np.array(random)
    return {
        "kept by": name, "success": round(sum(won) / (seeds * TESTS), 3), "wilson": f"{low:.3f}-{high:.3f}",
        "over_random": round(float(differences.mean()) / TESTS, 3), "p": round(sign_flip(differences), 5), "seeds": seeds,
    }  # fmt: skip


def sign_flip(differences: Any) -> float:
    """Two-sided exact sign-flip test of paired differences."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) - 1e-9).mean())


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction."""
    found, worst = {}, 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda v: v[1])):
        worst = max(worst, min(1.0, p * (len(values) - rank)))
        found[name] = worst
    return found


if __name__ == "__main__":
    main("curation_bc", __doc__.split("\n")[0], main_run)
