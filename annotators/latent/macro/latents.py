"""Rows of `latent_action`, read back as arrays: one camera of one episode at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch
from annotators.spans import episodes_of
from transforms.grid import I64

F32 = npt.NDArray[np.float32]


def _none() -> I64:
    return np.empty(0, np.int64)


def _no_vectors() -> F32:
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Latents:
    """Latents of one camera and episode, by first picture and horizon.

    Attributes:
        camera: which.
        start: row of the batch's steps where the episode begins.
        end: row after it.
        horizons_s: of the model.
        reason: why there is none; None where there are some.
        first: int64[n], row of the batch's steps where each begins.
        stop: int64[n], row after it.
        t0_ns: int64[n], when its first picture is shown.
        t1_ns: int64[n], when its second is.
        horizon: int64[n], which of `horizons_s`.
        z: float32[n, d].
    """

    camera: str
    start: int
    end: int
    horizons_s: tuple[float, ...]
    reason: str | None = None
    first: I64 = field(default_factory=_none)
    stop: I64 = field(default_factory=_none)
    t0_ns: I64 = field(default_factory=_none)
    t1_ns: I64 = field(default_factory=_none)
    horizon: I64 = field(default_factory=_none)
    z: F32 = field(default_factory=_no_vectors)

    def __len__(self) -> int:
        return len(self.first)

    def over(self, horizon: int) -> "Latents":
        """Return those of one horizon."""
        own = self.horizon == horizon
        columns = {n: getattr(self, n)[own] for n in ("first", "stop", "t0_ns", "t1_ns", "horizon", "z")}
        return replace(self, **columns)

    def breaks(self) -> I64:
        """Return int64[S + 1]: where a new sequence begins because pictures are missing, then the number of latents."""
        gaps = np.diff(self.t0_ns)
        wide = np.flatnonzero(gaps > 2 * np.median(gaps)) + 1 if len(gaps) else _none()
        return np.concatenate([[0], wide, [len(self)]]).astype(np.int64)


def latents_of(rows: pa.Table, batch: Batch, horizons_s: tuple[float, ...]) -> Iterator[Latents]:
    """Yield the latents of every camera and episode, in that order of episodes; those without any say why."""
    episode = episodes_of(rows, batch)
    camera = np.array(rows.column("camera").cast(pa.string()).to_pylist(), object)
    valid = rows.column("valid").to_numpy()
    first, stop = (batch.starts[episode] + rows.column(n).to_numpy() for n in ("start_step", "end_step"))
    t0, t1 = (rows.column(n).fill_null(0).to_numpy() for n in ("t0_ns", "t1_ns"))
    told = rows.column("horizon_s").to_numpy()
    which = np.abs(told[:, None] - np.array(horizons_s, np.float32)).argmin(1)
    vectors, reasons = rows.column("z").to_pylist(), rows.column("reason").to_pylist()
    for e in range(len(batch.episodes)):
        for name in dict.fromkeys(camera[episode == e].tolist()):
            own = np.flatnonzero((episode == e) & (camera == name))
            place = name, int(batch.starts[e]), int(batch.starts[e + 1]), horizons_s
            good = own[valid[own]]
            if not len(good):
                yield Latents(*place, reason=reasons[own[0]])
                continue
            z = np.array([vectors[i] for i in good], np.float32)
            yield Latents(*place, None, first[good], stop[good], t0[good], t1[good], which[good].astype(np.int64), z)
