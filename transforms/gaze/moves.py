"""Moves of a picture that gaze has to make too: crops, resizes, mirrors and quarter turns, chained and undone.

A move maps shares of the picture before it to shares of the picture after it, so a resize changes nothing and a chain is one matrix.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError
from transforms.rotation import F64


def _still() -> F64:
    return np.eye(3)


@dataclass(frozen=True, slots=True)
class Moves:
    """A chain of moves. Each method returns a longer chain.

    Attributes:
        matrix: float64[3, 3], of homogeneous shares (x, y, 1) before all moves.
    """

    matrix: F64 = field(default_factory=_still)

    def crop(self, left: float, top: float, right: float, bottom: float) -> "Moves":
        """Keep the box between these shares of the picture so far.

        Raises:
            UsageError: nothing is left.
        """
        if not (right > left and bottom > top):
            raise UsageError(f"a crop to {left:g}..{right:g} by {top:g}..{bottom:g} leaves no picture")
        wide, tall = right - left, bottom - top
        return self._then([[1 / wide, 0, -left / wide], [0, 1 / tall, -top / tall], [0, 0, 1]])

    def mirror(self) -> "Moves":
        """Swap left and right."""
        return self._then([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])

    def flip(self) -> "Moves":
        """Swap top and bottom."""
        return self._then([[1, 0, 0], [0, -1, 1], [0, 0, 1]])

    def turn(self, quarters: int = 1) -> "Moves":
        """Turn the picture clockwise by so many quarters; Aria's pictures stand upright after one."""
        made = self
        for _ in range(quarters % 4):
            made = made._then([[0, -1, 1], [1, 0, 0], [0, 0, 1]])
        return made

    def forward(self, xy: npt.ArrayLike) -> F64:
        """Return where points float[..., 2] are after the moves."""
        return _applied(self.matrix, np.asarray(xy, np.float64))

    def back(self, xy: npt.ArrayLike) -> F64:
        """Return where points float[..., 2] of the moved picture were before."""
        return _applied(np.asarray(np.linalg.inv(self.matrix), np.float64), np.asarray(xy, np.float64))

    def _then(self, rows: list[list[float]]) -> "Moves":
        return Moves(np.array(rows, np.float64) @ self.matrix)


def _applied(matrix: F64, points: F64) -> F64:
    return points @ matrix[:2, :2].T + matrix[:2, 2]
