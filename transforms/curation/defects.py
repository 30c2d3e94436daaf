"""Known defects, put into good episodes on purpose: the only way to learn what a quality score can see.

Two families. *Perturbation* changes how a motion was recorded: noise, tremor, a missing end, missing steps, poor pictures.
*Structural* defects record another motion faithfully: a gripper that lets go early, a skipped sub-goal, another object, another
instruction, pictures of another episode. Scores of the action alone are expected to miss the second family.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from schemas.contract import Contract, Feature
from schemas.ids import digest
from transforms.columns import feature_array
from transforms.curation.score import Footage
from transforms.curation.signals import grip_dims, motion_dims, spans
from transforms.grid import SECOND
from transforms.rotation import F64

Family = Literal["perturbation", "structural"]
TREMOR_HZ, BLUR = 6.0, 100  # Hz; the width of a picture over the blur's standard deviation


@dataclass(frozen=True, slots=True)
class Defect:
    """One entry of the ledger: what was done to which episode. `start` and `stop` are steps of the good episode."""

    episode_id: str
    kind: str
    family: Family
    seed: int
    start: int
    stop: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Donor:
    """Another episode of the same dataset, for defects that borrow from one."""

    steps: pa.Table
    footage: Mapping[str, Footage]


Spoil = Callable[["Workpiece"], tuple[pa.Table, int, int]]


@dataclass(frozen=True)
class Workpiece:
    """A good episode to be spoilt: its contract and steps, a donor, and a source of chance that belongs to this defect alone."""

    contract: Contract
    steps: pa.Table
    donor: Donor | None
    chance: np.random.Generator

    @property
    def numbers(self) -> list[Feature]:
        """Float features of the robot that are rows of numbers, state and action, without privileged ones."""
        roles = ("state", "action", "joint_position", "ee_position", "ee_rotation", "gripper", "base_pose")
        return [
            f
            for f in self.contract.features
            if f.role in roles and f.dtype.startswith("float") and not f.privileged and len(f.shape) <= 1
        ]

    @property
    def hz(self) -> float:
        """Steps per second."""
        t = self.steps.column("t_ns").to_numpy()
        return SECOND / max(float(np.median(np.diff(t))), 1.0)


def spoil(
    contract: Contract, steps: pa.Table, kind: str, seed: int, donor: Donor | None = None
) -> tuple[pa.Table, Defect] | None:
    """Return a spoilt copy of an episode and its entry for the ledger; None where this defect needs what the episode does not have.

    Chance comes from the episode's id, the kind and `seed` alone.
    """
    episode = str(steps.column("episode_id")[0].as_py())
    key = int(digest(["defect", episode, kind, seed])[:16], 16)
    work = Workpiece(contract, steps, donor, np.random.Generator(np.random.Philox(key)))
    family, how = DEFECTS[kind]
    try:
        spoilt, start, stop = how(work)
    except LookupError:
        return None
    return spoilt, Defect(episode, kind, family, seed, start, stop)


def noise(work: Workpiece) -> tuple[pa.Table, int, int]:
    """Gaussian noise of 1 % of each number's range, on state and action."""
    return _added(work, lambda v: work.chance.normal(size=v.shape) * 0.01 * spans(v)), 0, work.steps.num_rows


def tremor(work: Workpiece) -> tuple[pa.Table, int, int]:
    """A shake at 6 Hz (half the rate where that is slower) of 1 % of each number's range."""
    hz = min(TREMOR_HZ, work.hz / 4)
    phase = np.arange(work.steps.num_rows) / work.hz * 2 * np.pi * hz
    return (
        _added(work, lambda v: np.sin(phase[:, None] + work.chance.uniform(0, 6.28, v.shape[1])) * 0.01 * spans(v)),
        0,
        work.steps.num_rows,
    )


def truncation(work: Workpiece) -> tuple[pa.Table, int, int]:
    """The last 20 to 40 % are missing."""
    count = work.steps.num_rows
    kept = max(4, round(count * (1 - work.chance.uniform(0.2, 0.4))))
    return work.steps.slice(0, kept), kept, count


def dropped_steps(work: Workpiece) -> tuple[pa.Table, int, int]:
    """One step in ten is missing; the clock shows it."""
    count = work.steps.num_rows
    gone = work.chance.choice(np.arange(1, count - 1), max(1, count // 10), replace=False)
    return work.steps.take(pa.array(np.delete(np.arange(count), gone))), 0, count


def early_release(work: Workpiece) -> tuple[pa.Table, int, int]:
    """The gripper opens in the first half of its longest grasp and stays open, in state and action; LookupError without a grasp."""
    grips = [(f, dims) for f in work.numbers if (dims := grip_dims(f))]
    if not grips:
        raise LookupError("no gripper")
    feature, dims = grips[0]
    opening = _values(work.steps, feature)[:, dims].mean(1)
    low, high = float(opening.min()), float(opening.max())
    closed = opening < (low + high) / 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(int)))
    if high - low < 1e-6 or not len(edges):
        raise LookupError("no grasp")
    start, stop = max(edges.reshape(-1, 2).tolist(), key=lambda e: e[1] - e[0])
    at = int(start + (stop - start) * work.chance.uniform(0.1, 0.5))
    steps = work.steps
    for each, columns in grips:
        values = _values(steps, each)
        values[at:stop, columns] = values[:, columns].max(0)
        steps = _with(steps, each, values)
    return steps, at, stop


def skipped(work: Workpiece) -> tuple[pa.Table, int, int]:
    """A quarter out of the middle is left out and the rest joined by moving straight across in the same time."""
    count = work.steps.num_rows
    length = max(4, count // 4)
    start = int(work.chance.integers(count // 6, max(count // 6 + 1, count - length - count // 6)))
    stop = min(start + length, count - 1)
    return _replaced(work, start, stop, lambda v: np.linspace(v[start], v[stop], stop - start, endpoint=False)), start, stop


def wrong_object(work: Workpiece) -> tuple[pa.Table, int, int]:
    """The middle third goes where another episode went; joined at both ends over a tenth. LookupError without another episode."""
    if work.donor is None or work.donor.steps.num_rows < 8:
        raise LookupError("no other episode")
    count = work.steps.num_rows
    start, stop = count // 3, 2 * count // 3
    edge = max(1, count // 10)
    place = np.clip(np.minimum(np.arange(stop - start) + 1, np.arange(stop - start, 0, -1)) / edge, 0, 1)
    weight = (place * place * (3 - 2 * place))[:, None]
    steps = work.steps
    for feature in work.numbers:
        values, other = _values(steps, feature), _values(work.donor.steps, feature)
        at = np.linspace(len(other) / 3, 2 * len(other) / 3, stop - start)
        theirs = np.stack([np.interp(at, np.arange(len(other)), column) for column in other.T], 1)
        values[start:stop] = (1 - weight) * values[start:stop] + weight * theirs
        steps = _with(steps, feature, values)
    return steps, start, stop


def other_instruction(work: Workpiece) -> tuple[pa.Table, int, int]:
    """The text says what it did not do: words in another order, or another episode's text."""
    texts = [t for t in work.steps.column("language").cast(pa.string()).unique().to_pylist() if t]
    others = (
        [] if work.donor is None else [t for t in work.donor.steps.column("language").cast(pa.string()).unique().to_pylist() if t]
    )
    different = [t for t in others if t not in texts]
    if not texts:
        raise LookupError("no text")
    text = different[0] if different else " ".join(reversed(texts[0].split()))
    place = work.steps.schema.get_field_index("language")
    column = pa.array([text] * work.steps.num_rows, pa.string()).dictionary_encode()
    return work.steps.set_column(place, work.steps.schema.field(place), column), 0, work.steps.num_rows


def unchanged(work: Workpiece) -> tuple[pa.Table, int, int]:
    """Leave the steps alone: the defect is in the pictures."""
    return work.steps, 0, work.steps.num_rows


def spoil_footage(kind: str, footage: Mapping[str, Footage], donor: Donor | None) -> dict[str, Footage] | None:
    """Return what a picture defect does to footage; None where there is nothing to spoil. Blur is done before scaling, not here."""
    if not footage:
        return None
    if kind == "freeze":
        return {c: _frozen(f) for c, f in footage.items()}
    if kind == "dark":
        return {c: Footage(f.luma * 0.03, f.sharpness * 0.03**2, f.t_ns) for c, f in footage.items()}
    if kind == "other_pictures":
        if donor is None or not donor.footage.keys() & footage.keys():
            return None
        return {c: _lent(f, donor.footage[c]) for c, f in footage.items() if c in donor.footage}
    return dict(footage)


def blurred(picture: Any) -> Any:
    """Blur a picture uint8[H, W, 3] by a hundredth of its width."""
    import cv2

    return cv2.GaussianBlur(picture, (0, 0), max(1.0, picture.shape[1] / BLUR))


DEFECTS: dict[str, tuple[Family, Spoil]] = {
    "noise": ("perturbation", noise),
    "tremor": ("perturbation", tremor),
    "truncation": ("perturbation", truncation),
    "dropped_steps": ("perturbation", dropped_steps),
    "blur": ("perturbation", unchanged),
    "dark": ("perturbation", unchanged),
    "freeze": ("perturbation", unchanged),
    "early_release": ("structural", early_release),
    "skipped": ("structural", skipped),
    "wrong_object": ("structural", wrong_object),
    "other_instruction": ("structural", other_instruction),
    "other_pictures": ("structural", unchanged),
}
PICTURES = ("blur", "dark", "freeze", "other_pictures")


def _frozen(footage: Footage) -> Footage:
    count = len(footage.luma)
    start, stop = count // 3, count // 3 + max(2, count // 3)
    luma = footage.luma.copy()
    luma[start:stop] = luma[start]
    return Footage(luma, footage.sharpness, footage.t_ns)


def _lent(own: Footage, other: Footage) -> Footage:
    at = np.clip(np.linspace(0, len(other.luma) - 1, len(own.luma)).round().astype(int), 0, len(other.luma) - 1)
    return Footage(other.luma[at], other.sharpness[at], own.t_ns)


def _added(work: Workpiece, what: Callable[[F64], F64]) -> pa.Table:
    steps = work.steps
    for feature in work.numbers:
        values, dims = _values(steps, feature), motion_dims(feature)
        if dims:
            values[:, dims] += what(values[:, dims])
            steps = _with(steps, feature, values)
    return steps


def _replaced(work: Workpiece, start: int, stop: int, what: Callable[[F64], F64]) -> pa.Table:
    steps = work.steps
    for feature in work.numbers:
        values = _values(steps, feature)
        values[start:stop] = what(values)
        steps = _with(steps, feature, values)
    return steps


def _values(steps: pa.Table, feature: Feature) -> F64:
    return np.array(feature_array(steps, feature), np.float64).reshape(steps.num_rows, feature.size)


def _with(steps: pa.Table, feature: Feature, values: F64) -> pa.Table:
    place = steps.schema.get_field_index(feature.name)
    field = steps.schema.field(place)
    flat = pa.array(values.astype(feature.dtype).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, feature.size) if pa.types.is_fixed_size_list(field.type) else flat
    return steps.set_column(place, field, column)
