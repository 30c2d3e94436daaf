"""How exact are the residuals? Signal-to-noise ratio of a reduced-precision forward against float32, and when it is too low."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.residuals.compute import ask, prepare
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.drawing import draw
from pipelines.residuals.reading import Part
from pipelines.residuals.teacher import Teacher
from schemas.errors import UsageError

AUDIT_ROWS, LEAST_DB = 256, 20.0


@dataclass
class Precision:
    """Compares the first 256 rows of a unit with float32 ones, where the forward runs in anything less."""

    teacher: Teacher
    config: CacheConfig
    _signal: float = 0.0
    _noise: float = 0.0
    _rows: int = 0

    def look(self, part: Part, rows: dict[str, npt.NDArray[Any]]) -> None:
        """Take one part into account, unless enough have been.

        Raises:
            UsageError: the ratio is below 20 dB.
        """
        reduced = self.config.compute != "float32" or any(
            d not in ("float32", "float64") for d in self.teacher.spec.dtype.split("+")
        )
        if not reduced or not self.config.needs_both() or self._rows >= AUDIT_ROWS:
            return
        exact = exact_residual(self.teacher, self.config, part)
        size = exact.shape[1]
        self._signal += float(np.square(exact).sum())
        self._noise += float(np.square(rows["audit_fp32"][:, size:] - exact).sum())
        self._rows += len(exact)
        if self._rows >= AUDIT_ROWS:
            self.check()

    @property
    def snr_db(self) -> float | None:
        """The ratio in dB; None where nothing was reduced."""
        return snr_db(self._signal, self._noise) if self._rows else None

    def check(self) -> None:
        """Refuse what has been seen so far, if it is too coarse.

        Raises:
            UsageError: the ratio is below 20 dB.
        """
        if self.snr_db is not None and self.snr_db < LEAST_DB:
            raise UsageError(
                f"the residual of {self.teacher.spec.teacher_id} has {self.snr_db:.1f} dB in {self.config.compute} against float32, less "
                f"than {LEAST_DB:.0f}: rounding would be stored, not foresight. Compute in float32 (--set compute=float32)"
            )


def exact_residual(teacher: Teacher, config: CacheConfig, part: Part) -> npt.NDArray[np.float32]:
    """Return teacher minus student of a part, computed in float32 throughout, [B * K, H * A]."""
    import torch

    with torch.no_grad():
        ready = prepare(teacher, config, part)
        draws = draw(teacher.spec, config, part.ref.dataset, part.ref.episode_id, part.frames)
        found = ask(teacher, config, ready, draws, precise=True)
    assert found.base is not None
    assert found.teacher is not None
    residual = found.teacher - found.base
    return residual.reshape(residual.shape[0] * residual.shape[1], -1)


def snr_db(signal: float, noise: float) -> float:
    """Return 10 log10 of a ratio of energies; 999 where there is no noise (JSON has no infinity)."""
    if noise == 0:
        return 999.0
    return 10 * math.log10(signal / noise) if signal else -999.0
