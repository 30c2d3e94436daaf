"""A linear model of what happens next, z' = A z + B u, fitted by least squares: the latent dynamics that KORR's residuals hang on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Koopman:
    """z' = A z + B u.

    Attributes:
        a: [n, n].
        b: [n, m].
        error: sum of |z' - A z - B u|^2 over sum of |z' - z|^2, on the pairs it was fitted to.
    """

    a: F64
    b: F64
    error: float

    @property
    def radius(self) -> float:
        """Spectral radius of A: above 1, predictions grow without bound."""
        return float(np.abs(np.linalg.eigvals(self.a)).max())

    def predict(self, z: F64, u: F64) -> F64:
        """Return z' for states [..., n] and inputs [..., m]."""
        return z @ self.a.T + u @ self.b.T


def fit_koopman(z: npt.ArrayLike, u: npt.ArrayLike, z_next: npt.ArrayLike, ridge: float = 0.0) -> Koopman:
    """Fit A and B.

    Args:
        z: states [N, n].
        u: inputs [N, m].
        z_next: the states after them [N, n].
        ridge: weight of |A|^2 + |B|^2; 0 is plain least squares.
    """
    before, given, after = (np.asarray(x, np.float64).reshape(len(np.asarray(x)), -1) for x in (z, u, z_next))
    design = np.concatenate([before, given], 1)
    if ridge:
        gram = design.T @ design + ridge * np.eye(design.shape[1])
        solution: F64 = np.asarray(np.linalg.solve(gram, design.T @ after), np.float64)
    else:
        solution = np.asarray(np.linalg.lstsq(design, after, rcond=None)[0], np.float64)
    left = float(np.square(after - design @ solution).sum())
    moved = float(np.square(after - before).sum())
    states = before.shape[1]
    return Koopman(solution[:states].T, solution[states:].T, left / moved if moved else left)
