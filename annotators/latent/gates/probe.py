"""How much of an action can be read off some features by whoever has never seen the episode: ridge and a small residual network.

Every episode is predicted from others, twice over: the strength of the ridge, and when the network stops, are decided on episodes
that are neither fitted nor measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.evaluation import bootstrap, folds
from transforms.grid import BOOL, I64

F64 = npt.NDArray[np.float64]
RIDGES = (1e-4, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # times the number of rows
FOLDS = 5
WIDTH = 128
ROUNDS = 30  # most passes over the data
PATIENCE = 4  # passes without getting better


@dataclass(frozen=True, slots=True)
class Read:
    """What a probe read, per episode and action dimension.

    Attributes:
        missed: float64[E, A], squared error.
        spread: float64[E, A], squared distance from what the mean of the fitted episodes would have said.
    """

    missed: F64
    spread: F64

    @property
    def r2(self) -> float:
        """One minus missed over spread, pooled over dimensions that were standardised before; 0 is what a constant reaches."""
        return float(self.draw(np.ones((1, len(self.missed))))[0])

    @property
    def per_dimension(self) -> F64:
        """The same for each dimension, float64[A]; NaN where it never varies."""
        total = self.spread.sum(0)
        return 1 - self.missed.sum(0) / np.where(total > 0, total, np.nan)

    def interval(self) -> tuple[float, float] | None:
        """Return the interval of `r2` over episodes."""
        return bootstrap(self.draw, len(self.missed))

    def draw(self, draws: F64) -> F64:
        """Return `r2` where episodes count as often as drawn, float64[R] for float64[R, E]."""
        below = draws @ self.spread.sum(1)
        return 1 - (draws @ self.missed.sum(1)) / np.where(below > 0, below, np.nan)


def above(better: Read, worse: Read) -> tuple[float, float] | None:
    """Return the paired interval, over episodes, of how much more `better` reads than `worse`."""
    return bootstrap(lambda draws: better.draw(draws) - worse.draw(draws), len(better.missed))


def ridge_probe(features: npt.NDArray[np.floating], action: F64, episode: I64, names: Sequence[str]) -> Read:
    """Read standardised actions by ridge regression.

    Args:
        features: [n, f].
        action: float64[n, a].
        episode: int64[n], place of each row's episode in `names`.
        names: ids of episodes (or of what must not be split: scenes), by whose hash they are dealt out to folds.
    """
    found, target = np.zeros(action.shape), np.zeros(action.shape)
    for fit, check, test in _parts(episode, names):
        x, y = standard(features, fit), standard(action, fit)
        weights = _best_ridge(x[fit], y[fit], x[check], y[check])
        found[test], target[test] = _with_one(x[test]) @ weights, y[test]
    return _read(found, target, episode, len(names))


def ridge_predictions(features: npt.NDArray[np.floating], target: F64, episode: I64, names: Sequence[str]) -> F64:
    """Return what ridge regression says of `target` float64[n, a] in its own units, each episode predicted from others."""
    found = np.zeros(target.shape)
    for fit, check, test in _parts(episode, names):
        x = standard(features, fit)
        found[test] = _with_one(x[test]) @ _best_ridge(x[fit], target[fit], x[check], target[check])
    return found


def ridge_predict(x: F64, y: F64, fit: BOOL) -> F64:
    """Return what ridge regression fitted to some rows says of all, float64[n, a]; its strength is decided by leaving rows out in turn.

    The left-out error of a ridge has a closed form: each residual over one minus its leverage.
    """
    given = _with_one(x)
    left, values, right = np.linalg.svd(given[fit], full_matrices=False)
    best, found = np.inf, np.zeros((given.shape[1], y.shape[1]))
    for r in RIDGES:
        shrink = values / (values**2 + r * fit.sum())
        weights = right.T @ (shrink[:, None] * (left.T @ y[fit]))
        leverage = (left**2 * (values * shrink)).sum(1)
        error = float(np.square((y[fit] - given[fit] @ weights) / np.maximum(1 - leverage, 1e-9)[:, None]).sum())
        if error < best:
            best, found = error, weights
    return given @ found


def network_probe(
    features: npt.NDArray[np.floating], action: F64, episode: I64, names: Sequence[str], width: int = WIDTH, rounds: int = ROUNDS
) -> Read:
    """Read standardised actions by a ridge and a network of two residual blocks for what the ridge leaves over.

    The network starts from nothing and stops when it no longer gets better on other episodes: it never reads much less than the ridge.

    Args:
        features: [n, f].
        action: float64[n, a].
        episode: int64[n], see `ridge_probe`.
        names: see `ridge_probe`.
        width: hidden units; LARYBench takes 4 096.
        rounds: most passes over the data.
    """
    found, target = np.zeros(action.shape), np.zeros(action.shape)
    for fit, check, test in _parts(episode, names):
        x, y = standard(features, fit), standard(action, fit)
        weights = _best_ridge(x[fit], y[fit], x[check], y[check])
        line = _with_one(x) @ weights
        more = fit_network(x[fit], (y - line)[fit], x[check], (y - line)[check], width, rounds)
        found[test], target[test] = line[test] + more(x[test]), y[test]
    return _read(found, target, episode, len(names))


def fit_network(x: F64, y: F64, x_check: F64, y_check: F64, width: int = WIDTH, rounds: int = ROUNDS) -> Callable[[F64], F64]:
    """Return a function from features to targets: the network that did best on the check rows, which may be the one that says 0.

    Args:
        x: float64[n, f], standardised.
        y: float64[n, a], standardised.
        x_check: float64[m, f], what decides when to stop.
        y_check: float64[m, a].
        width: hidden units.
        rounds: most passes over the data.
    """
    import torch

    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _network(x.shape[1], y.shape[1], width)
        given, wanted, given_check, wanted_check = (torch.tensor(v, dtype=torch.float32) for v in (x, y, x_check, y_check))
        steps = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2, fused=True)
        best, kept, since = float(wanted_check.square().mean()), _copy(net), 0
        for _ in range(rounds):
            for chosen in torch.randperm(len(given)).split(max(64, min(256, len(given) // 12))):
                steps.zero_grad()
                (net(given[chosen]) - wanted[chosen]).square().mean().backward()
                steps.step()
            with torch.no_grad():
                error = float((net(given_check) - wanted_check).square().mean())
            since += 1
            if error < best:
                best, kept, since = error, _copy(net), 0
            if since >= PATIENCE:
                break
        net.load_state_dict(kept)
        net.requires_grad_(False)
    return lambda features: net(torch.tensor(features, dtype=torch.float32)).numpy().astype(np.float64)


def _network(inputs: int, outputs: int, width: int) -> Any:
    """Return an untrained network of two residual blocks."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return value + self.inner(value)

    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, width), Block(), Block(), nn.LayerNorm(width), last)


def _copy(net: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def _parts(episode: I64, names: Sequence[str]) -> list[tuple[BOOL, BOOL, BOOL]]:
    """Return for each fold which rows are fitted, checked and measured; below three episodes there is nothing to check on."""
    fold = folds(names, FOLDS)[episode]
    kinds = np.unique(fold)
    if len(kinds) < 2:
        return []
    result: list[tuple[BOOL, BOOL, BOOL]] = []
    for at, k in enumerate(kinds):
        test, check = fold == k, fold == kinds[(at + 1) % len(kinds)]
        fit = ~test & ~check if len(kinds) > 2 else ~test
        result.append((fit, check & ~test if len(kinds) > 2 else fit, test))
    return result


def _best_ridge(x: F64, y: F64, x_check: F64, y_check: F64) -> F64:
    """Return weights float64[f + 1, a] of the strength that errs least on the check rows."""
    x, x_check = _with_one(x), _with_one(x_check)
    values, vectors = np.linalg.eigh(x.T @ x)
    onto = vectors.T @ (x.T @ y)
    tries = [vectors @ (onto / (np.maximum(values, 0) + r * len(x))[:, None]) for r in RIDGES]
    return min(tries, key=lambda w: float(np.square(x_check @ w - y_check).sum()))


def standard(values: npt.NDArray[np.floating], fit: BOOL) -> F64:
    """Return features [n, f] shifted and scaled by the fitted rows, float64; columns that do not vary there become 0."""
    data = values.astype(np.float64)
    scale = data[fit].std(0)
    varies = scale > 1e-9 * np.maximum(np.abs(data[fit]).max(0), 1e-12)
    return np.where(varies, (data - data[fit].mean(0)) / np.where(varies, scale, 1.0), 0.0)


def _with_one(x: F64) -> F64:
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def _read(found: F64, target: F64, episode: I64, episodes: int) -> Read:
    missed, spread = np.zeros((episodes, target.shape[1])), np.zeros((episodes, target.shape[1]))
    np.add.at(missed, episode, np.square(found - target))
    np.add.at(spread, episode, np.square(target))
    return Read(missed, spread)
