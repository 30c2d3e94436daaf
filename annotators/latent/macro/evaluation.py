"""How good macro latents are: how long runs last, whether what the agent does changes where they do, what longer latents tell about actions."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, known, not_measurable, verdict
from annotators.latent.gates.truth import interval_motion
from annotators.latent.macro.book import code_book
from annotators.latent.macro.latents import latents_of
from annotators.spans import episodes_of
from transforms.grid import I64, SECOND
from transforms.macro_latents import choose_penalty, distances
from transforms.noise import raw
from transforms.rotation import F64

if TYPE_CHECKING:
    from annotators.latent.macro.latent_macro import LatentMacro

WANTED_S = (0.5, 1.5)
SHIFTS = 8
RUNS = f"median run of {WANTED_S[0]:g} to {WANTED_S[1]:g} s"
SPREAD = "actions differ less inside runs than inside the same runs moved along the episode, the whole interval"


def evaluate_macros(annotator: "LatentMacro", batch: Batch, val: Batch) -> tuple[QualityReport, ...]:
    """Run the gates of one kind of macro latent on `batch`; `val` says which penalty would make runs as long as wanted."""
    if annotator.config.kind != "persistent":
        from annotators.latent.gates.batches import evaluate_latents

        return evaluate_latents(annotator, batch)
    rows = annotator.run(batch)
    rows = rows.filter(rows.column("valid"))
    if not rows.num_rows:
        return not_measurable("run_seconds", "no run", RUNS), not_measurable("action_spread_inside", "no run", SPREAD)
    lengths = _lengths(annotator, batch, rows)
    lengths = replace(lengths, detail={**lengths.detail, "penalty_wanted": wanted_penalty(annotator, val)})
    return lengths, _spread(batch, rows)


def wanted_penalty(annotator: "LatentMacro", val: Batch) -> float | None:
    """Return the `penalty` whose median run on these episodes is nearest to what is wanted; None where nothing can be said."""
    if not val.episodes or (book := code_book(annotator.config.checkpoint)) is None:
        return None
    horizons = annotator.short.lam.model.horizons_s
    found = [x.over(0) for x in latents_of(annotator.short.run(val), val, horizons) if x.reason is None]
    if not found:
        return None
    costs = [distances(book.tokens(x.z)[0], book.codes) for x in found]
    starts = np.concatenate([[0], np.cumsum([len(c) for c in costs])]).astype(np.int64)
    gaps = np.concatenate([np.diff(x.t0_ns) for x in found])
    period = float(np.median(gaps)) / SECOND if len(gaps) else 1 / annotator.config.hz
    return choose_penalty(np.concatenate(costs), starts, period, WANTED_S) / book.unit


def _lengths(annotator: "LatentMacro", batch: Batch, rows: pa.Table) -> QualityReport:
    """Report the median run; without a penalty runs are as long as nearest codes make them."""
    seconds, episode = _seconds(rows), episodes_of(rows, batch)
    plain = annotator.with_penalty(0.0).run(batch)
    value = float(np.median(seconds))
    per = [seconds[episode == e] for e in range(len(batch.episodes))]

    def statistic(draws: F64) -> F64:
        drawn = [np.concatenate([np.repeat(p, int(n)) for p, n in zip(per, d, strict=True)]) for d in draws]
        return np.array([float(np.median(d)) for d in drawn], np.float64)

    ok = WANTED_S[0] <= value <= WANTED_S[1]
    beside = {"nearest_code": float(np.median(_seconds(plain.filter(plain.column("valid")))))}
    detail = {"runs": rows.num_rows, "codes_used": len({tuple(c) for c in rows.column("code").to_pylist()})}
    return QualityReport(
        "run_seconds", value, bootstrap(statistic, len(per)), len(per), rows.num_rows, "all", beside, verdict(ok),
        "no truth needed", RUNS, detail,
    )  # fmt: skip


def _spread(batch: Batch, rows: pa.Table) -> QualityReport:
    """Report the share of the variance of actions that is left inside runs, against the same runs moved along their episode."""
    metric = "action_spread_inside"
    steps = np.arange(batch.steps.num_rows)
    last = np.repeat(batch.starts[1:], np.diff(batch.starts)) - 1
    truth = interval_motion(batch, steps, np.minimum(steps + 1, last))
    if isinstance(truth, str):
        return not_measurable(metric, truth, SPREAD)
    scale = truth.action.std(0)
    action = (truth.action - truth.action.mean(0)) / np.where(scale > 0, scale, 1.0)
    label = _labels(batch, rows)
    use = (label >= 0) & truth.usable & (steps < last)
    if not use.any():
        return not_measurable(metric, "no step of a known motion lies in a run", SPREAD)
    owner = np.repeat(np.arange(len(batch.episodes)), np.diff(batch.starts))
    total = _by_episode(np.square(action).sum(1), owner, use, len(batch.episodes))
    own = _inside(action, label, owner, use, len(batch.episodes))
    moved = np.mean([_inside(action, _moved(batch, label, s), owner, use, len(batch.episodes)) for s in range(SHIFTS)], axis=0)
    value = float(own.sum() / total.sum())
    gap = bootstrap(lambda d: (d @ (moved - own)) / (d @ total), len(total))
    ci95 = bootstrap(lambda d: (d @ own) / (d @ total), len(total))
    return QualityReport(
        metric, known(value), ci95, len(batch.episodes), int(use.sum()), "all", {"moved": float(moved.sum() / total.sum()), "one_run": 1.0},
        verdict(gap is not None and gap[0] > 0), truth.told_by, SPREAD, {"below_moved": gap},
    )  # fmt: skip


def _labels(batch: Batch, rows: pa.Table) -> I64:
    """Return the run each step lies in, int64[T]; -1: none. Of several cameras, the first one's runs count."""
    camera = rows.column("camera").cast(pa.string())
    rows = rows.filter(pa.array(np.array(camera.to_pylist()) == camera[0].as_py()))
    label = np.full(batch.steps.num_rows, -1, np.int64)
    first = batch.starts[episodes_of(rows, batch)]
    spans = zip(first + rows.column("start_step").to_numpy(), first + rows.column("end_step").to_numpy(), strict=True)
    for number, (a, b) in enumerate(spans):
        label[a:b] = number
    return label


def _moved(batch: Batch, label: I64, seed: int) -> I64:
    """Return the same runs, each episode's moved along it (around its end) by a random part of its length."""
    moved = label.copy()
    for e, (a, b) in enumerate(zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True)):
        by = 1 + int(raw([seed], e, 1)[0, 0] % max(b - a - 1, 1))
        moved[a:b] = np.roll(label[a:b], by)
    return moved


def _inside(action: F64, label: I64, owner: I64, use: np.ndarray, episodes: int) -> F64:
    """Return per episode the squared distance of actions to their run's mean, float64[E]."""
    keep = use & (label >= 0)
    _, group = np.unique(np.stack([owner[keep], label[keep]]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    count = np.bincount(group)
    means = np.stack([np.bincount(group, column) / count for column in action[keep].T], 1)
    left = np.square(action[keep] - means[group]).sum(1)
    return np.bincount(owner[keep], left, episodes).astype(np.float64)


def _by_episode(values: F64, owner: I64, use: np.ndarray, episodes: int) -> F64:
    return np.bincount(owner[use], values[use], episodes).astype(np.float64)


def _seconds(rows: pa.Table) -> F64:
    return (rows.column("t1_ns").to_numpy() - rows.column("t0_ns").to_numpy()) / SECOND
