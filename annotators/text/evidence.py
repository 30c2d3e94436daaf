"""Does a rationale say something about the action that the state does not? Measured on episodes the predictor has not seen.

ActRe keeps a rationale y for its lift `log p(a | s, y) - log p(a | s)`. Here both are linear predictors of the movement with Gaussian
errors, fitted on other episodes; the control gives every movement the rationale of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annotators.evaluation import folds
from transforms.rotation import F64

RIDGE = 1.0  # on standardised inputs, in rows


@dataclass(frozen=True, slots=True)
class Evidence:
    """What text adds to state.

    Attributes:
        lift: float64[N], nats per row, held out.
        without: mean squared error of the movement predicted from state alone, in the action's unit squared, and
        with_text: from state and text.
    """

    lift: F64
    without: float
    with_text: float


def evidence(state: F64, text: F64, action: F64, episodes: Sequence[str]) -> Evidence:
    """Compare two predictors of float64[N, A] actions: from float64[N, S] states, and from these beside float64[N, T] texts."""
    names = sorted(set(episodes))
    fold = dict(zip(names, folds(names).tolist(), strict=True))
    part = np.array([fold[e] for e in episodes])
    surprise, error = np.zeros((2, len(action))), np.zeros((2, len(action)))
    for which, inputs in enumerate((state, np.concatenate([state, text], axis=1))):
        for held in np.unique(part):
            surprise[which, part == held], error[which, part == held] = _held_out(inputs, action, part == held)
    return Evidence(surprise[0] - surprise[1], float(error[0].mean()), float(error[1].mean()))


def _held_out(inputs: F64, action: F64, test: np.ndarray) -> tuple[F64, F64]:
    """Return -log p and the squared error of every held-out action, from a ridge regression on the others."""
    x, y = inputs[~test], action[~test]
    middle, width = x.mean(0), x.std(0)
    width = np.where(width > 1e-9, width, np.inf)
    design, level = (x - middle) / width, y.mean(0)
    solved = np.linalg.solve(design.T @ design + RIDGE * np.eye(x.shape[1]), design.T)
    weights = solved @ (y - level)
    leverage = np.einsum("ij,ji->i", design, solved) + 1 / len(x)
    left_out = (y - level - design @ weights) / np.maximum(1 - leverage, 1e-3)[:, None]  # as if each row had not been fitted
    spread = np.square(left_out).mean(0) + 1e-8
    miss = np.square(action[test] - level - (inputs[test] - middle) / width @ weights)
    return 0.5 * (miss / spread + np.log(2 * np.pi * spread)).sum(1), miss.mean(1)
