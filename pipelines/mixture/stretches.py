"""The shares of a mixture, stretch by stretch: as asked, with sizes counted in, after caps and floors, and as whole slots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.errors import InfeasibleMixtureError
from schemas.mixture import MixtureSpec, PhaseSpec, SourceSpec
from transforms.interleave import PERIOD, interleave, quantise
from transforms.shares import fill_shares

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
ROUNDS, CLOSE = 200, 1e-12  # of floors in another unit than draws


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of constant shares, [S] each.

    Attributes:
        samples: number of draws.
        asked: shares of the mixture's unit as the weights say.
        plain: the same with sizes counted in.
        target: shares of draws after caps and floors.
        quotas: what stands for `target`, in slots of a period.
    """

    samples: int
    asked: F64
    plain: F64
    target: F64
    quotas: I64


def resolve(spec: MixtureSpec, items: Sequence[int], per_draw: Sequence[float]) -> list[Stretch]:
    """Resolve each stretch in turn: what a capped source has given in one is missing in the next.

    Args:
        spec: of the mixture.
        items: length of each source's epoch.
        per_draw: how much of the mixture's unit one draw of each source is.

    Raises:
        InfeasibleMixtureError: weights, caps and floors cannot all hold.
    """
    used = np.zeros(len(items), np.int64)
    found: list[Stretch] = []
    for phase in spec.stretches():
        found.append(_stretch(spec, phase, items, np.asarray(per_draw, np.float64), used))
        used = used + spec.group * interleave(tuple(found[-1].quotas.tolist())).counts(phase.samples // spec.group)
    return found


def _stretch(spec: MixtureSpec, phase: PhaseSpec, items: Sequence[int], per_draw: F64, used: I64) -> Stretch:
    sizes, names = np.asarray(items, np.float64), [s.name for s in spec.sources]
    asked = np.asarray([phase.weights.get(name, 0.0) for name in names])
    weights = np.where(asked > 0, asked * (sizes * per_draw) ** spec.temperature, 0.0)
    caps = np.asarray([math.inf if s.max_epochs is None else s.max_epochs for s in spec.sources]) - used / sizes
    floors = np.where(asked > 0, [s.floor for s in spec.sources], 0.0)
    low, target = floors, np.zeros(len(sizes))
    for _ in range(ROUNDS):  # a floor in frames or tokens is one in draws only once their mean per draw is known
        before, target = target, fill_shares(names, weights / per_draw, sizes, phase.samples, np.maximum(caps, 0), low)
        low = floors * (target @ per_draw) / per_draw
        if np.abs(target - before).max() < CLOSE or not floors.any() or spec.unit == "samples":
            break
    most = [
        _most_slots(s, n, int(u), phase.samples, spec.group) if w else 0
        for s, n, u, w in zip(spec.sources, items, used, asked, strict=True)
    ]
    least = np.ceil(low * PERIOD - 1e-9).astype(np.int64)
    quotas = quantise(target, least=least, most=most)
    return Stretch(phase.samples, asked / asked.sum(), weights / weights.sum(), target, quotas)


def _most_slots(source: SourceSpec, items: int, used: int, samples: int, group: int) -> int:
    """Slots of the period that keep a source within its cap: rounded down, so that a cap holds to the draw."""
    if source.max_epochs is None:
        return PERIOD
    supply = (int(source.max_epochs * items + 1e-6) - used) // group * group
    if supply <= 0:
        raise InfeasibleMixtureError(
            f"source {source.name}: earlier phases draw all {used} samples its cap allows; raise max_epochs, or leave it out of the "
            "later phases"
        )
    slots = min(supply * PERIOD // samples, PERIOD)
    if slots == 0:
        raise InfeasibleMixtureError(
            f"source {source.name}: its cap allows {supply} of {samples} draws, less than the smallest share of 1 in {PERIOD}; "
            f"lower samples to {supply * PERIOD}, raise max_epochs, or merge it with another source"
        )
    return slots
