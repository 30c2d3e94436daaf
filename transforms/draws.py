"""Where along the path between noise and action a draw lies: samplers of tau as inverse distribution functions, and strata of them.

Tau is canonical: 1 is noise, 0 is data. A sampler is text, so that it can be part of a key:

    uniform                      tau = u
    beta(a,b,scale,offset)       tau = Beta(a, b) * scale + offset                    (pi0, openpi)
    shifted(s)                   tau = s u / (1 + (s - 1) u)                          (Wan, FastWAM)
    flipped_beta(a,b,scale)      tau = 1 - scale * (1 - Beta(a, b))                   (multi-task DiT, whose own time is 1 - tau)
    steps(n)                     tau = k / n with k uniform on 0 .. n - 1             (DDPM)
    fixed(t)                     tau = t
    grid(t1,t2,...)              tau = t_k for stratum k, round and round
"""

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F64 = npt.NDArray[np.float64]
_FORM = re.compile(r"([a-z_]+)(?:\(([^()]*)\))?")


def strata(sampler: str, unit: F64, stratum: npt.ArrayLike, of: int) -> F64:
    """Return tau for draws that share the range out evenly: `F^-1((k + u) / K)`.

    Args:
        sampler: see the module.
        unit: numbers in [0, 1), one per draw, [...].
        stratum: k of each draw, in 0 .. K - 1, [...] or a number.
        of: K.

    Raises:
        UsageError: there is no such sampler, or its numbers make no sense.
    """
    k = np.asarray(stratum, np.float64)
    name, numbers = parse(sampler)
    if name == "grid":
        values = np.asarray(numbers, np.float64)
        return values[np.broadcast_to(k.astype(np.int64) % len(values), unit.shape)]
    return _INVERSES[name](np.asarray((k + unit) / of, np.float64), *numbers)


def parse(sampler: str) -> tuple[str, tuple[float, ...]]:
    """Return a sampler's name and numbers.

    Raises:
        UsageError: there is no such sampler, or its numbers make no sense.
    """
    found = _FORM.fullmatch(sampler.replace(" ", ""))
    name = found[1] if found else sampler
    if found is None or name not in _ARITY:
        raise UsageError(
            f"{sampler!r} is no sampler of tau; there are {', '.join(sorted(_ARITY))}, for example beta(1.5,1,0.999,0.001)"
        )
    try:
        numbers = tuple(float(n) for n in (found[2] or "").split(",") if n)
    except ValueError:
        raise UsageError(f"the sampler {sampler!r} holds something that is not a number") from None
    wanted = _ARITY[name]
    if (wanted is None and not numbers) or (wanted is not None and len(numbers) != wanted):
        raise UsageError(
            f"the sampler {sampler!r} takes {wanted if wanted is not None else 'one or more'} numbers, not {len(numbers)}"
        )
    if not all(np.isfinite(numbers)) or (name in ("fixed", "grid") and not all(0 <= n <= 1 for n in numbers)):
        raise UsageError(f"the sampler {sampler!r} leaves [0, 1]")
    if name in ("shifted", "steps", "beta", "flipped_beta") and min(numbers[:2]) <= 0:
        raise UsageError(f"the sampler {sampler!r} needs positive numbers")
    return name, numbers


def _beta(unit: F64, a: float, b: float, scale: float, offset: float) -> F64:
    from scipy.special import betaincinv

    return np.asarray(betaincinv(a, b, unit), np.float64) * scale + offset


def _flipped_beta(unit: F64, a: float, b: float, scale: float) -> F64:
    from scipy.special import betaincinv

    return 1.0 - scale * (1.0 - np.asarray(betaincinv(a, b, unit), np.float64))


def _shifted(unit: F64, shift: float) -> F64:
    return shift * unit / (1.0 + (shift - 1.0) * unit)


def _steps(unit: F64, count: float) -> F64:
    return np.minimum(np.floor(unit * count), count - 1) / count


def _fixed(unit: F64, tau: float) -> F64:
    return np.full_like(unit, tau)


def _uniform(unit: F64) -> F64:
    return unit


_INVERSES: dict[str, Callable[..., F64]] = {
    "uniform": _uniform, "beta": _beta, "flipped_beta": _flipped_beta, "shifted": _shifted, "steps": _steps, "fixed": _fixed,
}  # fmt: skip
_ARITY: dict[str, int | None] = {
    "uniform": 0, "beta": 4, "flipped_beta": 3, "shifted": 1, "steps": 1, "fixed": 1, "grid": None,
}  # fmt: skip
