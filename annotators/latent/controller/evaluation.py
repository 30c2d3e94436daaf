"""How good a controller is on episodes it was not fitted to: latents from actions, actions from latents, the round trip, and what is imagined."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annotators.evaluation import QualityReport, bootstrap, known, verdict
from annotators.latent.controller.model import F32, Controller
from annotators.latent.gates.dreams import Dreamer, Scenes, changed_gain
from annotators.latent.gates.evidence import permutation
from transforms.grid import I64
from transforms.rotation import F64

GOAL = "more than shuffled pairs and more than the state alone, paired intervals above 0"
ROLLOUT = "explains changed pixels better than copying and than shuffled latents, paired intervals above 0"


@dataclass(frozen=True)
class Intervals:
    """Intervals of some episodes: actions float32[n, samples, a], states float32[n, s], latents float32[n, d], int64[n] episodes."""

    actions: F32
    state: F32
    latents: F32
    episode: I64

    def take(self, rows: I64 | np.ndarray) -> "Intervals":
        """Return some of them."""
        return Intervals(self.actions[rows], self.state[rows], self.latents[rows], self.episode[rows])


def judge_controller(controller: Controller, fitted: Intervals, heldout: Intervals) -> tuple[QualityReport, ...]:
    """Report three R2 on held-out episodes, each against a shuffled twin and against what the state alone tells.

    Args:
        controller: fitted to `fitted`.
        fitted: what the baselines are fitted to, too.
        heldout: intervals of other episodes.
    """
    order = permutation(len(heldout.latents), 3)
    wrong = heldout.take(order)
    flat = heldout.actions.reshape(len(heldout.actions), -1)
    mapped = controller.to_latents(heldout.actions, heldout.state)
    latent_by_state = _ridge(fitted.state, fitted.latents, heldout.state)
    action_by_state = _ridge(fitted.state, fitted.actions.reshape(len(fitted.actions), -1), heldout.state)

    def back(z: F32) -> F64:
        return controller.to_actions(z, heldout.state).reshape(len(z), -1).astype(np.float64)

    twin = controller.to_latents(wrong.actions, heldout.state).astype(np.float64)
    return (
        _report("controller_latent_r2", mapped.astype(np.float64), heldout.latents, {"shuffled": twin, "state": latent_by_state}, fitted.latents, heldout),
        _report("controller_action_r2", back(heldout.latents), flat, {"shuffled": back(wrong.latents), "state": action_by_state}, fitted.actions.reshape(len(fitted.actions), -1), heldout),
        _report("controller_round_trip_r2", back(mapped), flat, {"shuffled": back(mapped[order]), "state": action_by_state}, fitted.actions.reshape(len(fitted.actions), -1), heldout),
    )  # fmt: skip


def judge_rollout(controller: Controller, model: Dreamer, scenes: Scenes, heldout: Intervals) -> QualityReport:
    """Report how much of the change a world model explains when it is driven by real actions through the controller.

    Args:
        controller: what turns actions into latents.
        model: what imagines.
        scenes: the pictures of exactly the intervals of `heldout`.
        heldout: their actions, states and own latents.
    """
    mapped = controller.to_latents(heldout.actions, heldout.state)
    order = permutation(len(mapped), 4)
    tries = {"mapped": mapped, "own": heldout.latents, "shuffled": mapped[order], "mean": np.broadcast_to(heldout.latents.mean(0), mapped.shape).copy()}  # fmt: skip
    errors: dict[str, F64] = {}
    copy: F64 = np.zeros(scenes.episodes)
    for name, z in tries.items():
        found, copied = changed_gain(model.imagine(scenes.first, z), scenes.first, scenes.second)
        errors[name], copy = (np.bincount(scenes.episode, e, scenes.episodes).astype(np.float64) for e in (found, copied))

    def gain(name: str, draws: F64) -> F64:
        return 1 - (draws @ errors[name]) / (draws @ copy)

    once = np.ones((1, scenes.episodes))
    values = {name: float(gain(name, once)[0]) for name in errors}
    above = bootstrap(lambda d: gain("mapped", d) - gain("shuffled", d), scenes.episodes)
    ci95 = bootstrap(lambda d: gain("mapped", d), scenes.episodes)
    ok = ci95 is not None and above is not None and min(ci95[0], above[0]) > 0
    beside = {"copy": 0.0, **{n: v for n, v in values.items() if n != "mapped"}}
    return QualityReport(
        "controller_rollout_gain", known(values["mapped"]), ci95, scenes.episodes, len(mapped), "all", beside, verdict(ok),
        "the pictures themselves", ROLLOUT,
    )  # fmt: skip


def _report(metric: str, said: F64, true: F32, beside: dict[str, F64], fitted: F32, heldout: Intervals) -> QualityReport:
    """Pool R2 over numbers standardised by the fitted episodes; a constant reaches 0."""
    centre, scale = fitted.mean(0).astype(np.float64), fitted.std(0).astype(np.float64)
    scale = np.where(scale > 1e-9, scale, np.inf)  # what never varies says nothing
    episodes, where = np.unique(heldout.episode, return_inverse=True)

    def missed(values: F64) -> F64:
        return np.bincount(where, np.square((values - true) / scale).sum(1), len(episodes)).astype(np.float64)

    spread, errors = missed(np.broadcast_to(centre, true.shape)), {n: missed(v) for n, v in {"own": said, **beside}.items()}

    def r2(name: str, draws: F64) -> F64:
        below = draws @ spread
        return 1 - (draws @ errors[name]) / np.where(below > 0, below, np.nan)

    once = np.ones((1, len(episodes)))
    gaps = {n: bootstrap(lambda d, n=n: r2("own", d) - r2(n, d), len(episodes)) for n in beside}
    ok = all(g is not None and g[0] > 0 for g in gaps.values())
    return QualityReport(
        metric, known(float(r2("own", once)[0])), bootstrap(lambda d: r2("own", d), len(episodes)), len(episodes), len(true), "all",
        {n: float(r2(n, once)[0]) for n in beside}, verdict(ok), "recorded actions and their latents", GOAL, {"above": gaps},
    )  # fmt: skip


def _ridge(x: F32, y: F32, asked: F32) -> F64:
    """Return what ridge regression on the state says; the mean where there is no state."""
    mean = y.mean(0).astype(np.float64)
    if not x.shape[1]:
        return np.broadcast_to(mean, (len(asked), y.shape[1]))
    centre, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    known, new = (((v - centre) / scale).astype(np.float64) for v in (x, asked))
    weights = np.linalg.solve(known.T @ known + 1e-2 * len(x) * np.eye(x.shape[1]), known.T @ (y - mean))
    return mean + new @ weights


def split(names: Sequence[str], episode: I64) -> tuple[np.ndarray, np.ndarray]:
    """Return which intervals to fit and which to hold out, by the hash of their episode (or scene)."""
    from annotators.base import in_test

    test = in_test(names)[episode]
    return np.flatnonzero(~test), np.flatnonzero(test)
