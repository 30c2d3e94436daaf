"""Objects whose pose a simulator recorded: step columns or signals named `...object_pose.<name>`."""

import re

import numpy as np

from annotators.base import Batch
from annotators.motion.read import step_column
from schemas.contract import Contract
from transforms.rotation import F64

MARK = "object_pose."
_PLACE = {3: (0, 1, 2), 7: (0, 1, 2), 16: (3, 7, 11)}  # xyz; xyz and quaternion; a row-major 4x4 matrix


def object_columns(contract: Contract) -> dict[str, str]:
    """Return the step column of each object, by its name in words."""
    found = {f.name: f.name.rpartition(MARK)[2] for f in contract.features if MARK in f.name and f.size in _PLACE}
    return {in_words(thing): column for column, thing in found.items()}


def object_streams(contract: Contract) -> dict[str, str]:
    """Return the signal of each object, by its name in words."""
    return {in_words(s.name.rpartition(MARK)[2]): s.name for s in contract.streams if MARK in s.name}


def object_places(batch: Batch) -> dict[str, F64]:
    """Return where each object is at every step, float64[3, T] metres in the frame it was recorded in; NaN where it is not known."""
    places: dict[str, F64] = {}
    for thing, column in object_columns(batch.contract).items():
        if column in batch.steps.column_names:
            data = step_column(batch.steps.column(column))
            places[thing] = data[list(_PLACE[len(data)])]
    if batch.streams is not None:
        for thing, stream in object_streams(batch.contract).items():
            places[thing] = np.concatenate([_on_steps(batch, at, stream) for at in range(len(batch.episodes))], 1)
    return places


def in_words(name: str) -> str:
    """Return a body's name as words: `RedCup_2` is "red cup 2"."""
    parts: list[str] = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return " ".join(p.lower() for p in parts) or name


def _on_steps(batch: Batch, episode: int, stream: str) -> F64:
    """Interpolate one episode's signal to its steps, float64[3, T_e]; NaN outside of it."""
    a, b = batch.starts[episode], batch.starts[episode + 1]
    rows = batch.stream(batch.episodes[episode], stream)
    if not rows.num_rows:
        return np.full((3, b - a), np.nan)
    place = np.array([v[:3] for v in rows.column("values").to_pylist()], np.float64).T
    when = rows.column("t_ns").to_numpy()
    # seconds after the first sample: nanoseconds since 1970 do not fit into a float
    t, at = (when - when[0]) * 1e-9, (batch.t_ns[a:b] - when[0]) * 1e-9
    return np.stack([np.interp(at, t, row, left=np.nan, right=np.nan) for row in place])
