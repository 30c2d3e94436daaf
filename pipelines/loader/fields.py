"""What a sample of a dataset holds: one field per feature and camera, with the instants it covers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from schemas.contract import Camera, Contract, Feature
from schemas.errors import UsageError
from schemas.mixture import WindowSpec
from transforms.windows import chunk_offsets, to_ns

type Windows = WindowSpec | Mapping[str, Sequence[float]]
IMAGES = "observation.images."
NOT_RGB = ("depth", "segmentation")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a sample.

    Attributes:
        key: its name, LeRobot's way.
        kind: a number or string per step, an RGB picture, or integer masks.
        name: of the feature or camera in the contract.
        dtype: numpy name, or `string`.
        shape: without time; pictures are (3, H, W), 0 where the contract does not say.
        offsets_ns: instants relative to the anchor; None: the anchor alone, without a time axis.
        is_action: whether a padding last action counts as padding.
    """

    key: str
    kind: Literal["feature", "picture", "masks"]
    name: str
    dtype: str
    shape: tuple[int, ...]
    offsets_ns: tuple[int, ...] | None = None
    is_action: bool = False


def fields_of(contract: Contract, windows: Windows, keys: Sequence[str] | None = None) -> tuple[Field, ...]:
    """Return the fields of one dataset's samples.

    Args:
        contract: of the dataset.
        windows: a spec, or offsets in seconds per key as in LeRobot's `delta_timestamps`.
        keys: only these; None: everything that is not privileged, without depth and segmentation.

    Raises:
        UsageError: an action chunk is wanted at the dataset's own rate and its contract states none.
    """
    hidden = {f.name for f in contract.features if f.privileged}
    hidden |= {IMAGES + c.name for c in contract.cameras if c.privileged or c.role in NOT_RGB}
    wanted = [f for f in _every(contract) if (f.key not in hidden if keys is None else f.key in keys)]
    return tuple(_with_offsets(f, contract, windows) for f in wanted)


def check_keys(contracts: Iterable[Contract], windows: Windows, keys: Sequence[str] | None) -> None:
    """Refuse keys that no dataset has.

    Raises:
        UsageError: `keys` or `windows` names such a key; the message gives the nearest ones.
    """
    known = sorted({f.key for contract in contracts for f in _every(contract)})
    named = [*(keys or ()), *(windows if isinstance(windows, Mapping) else ())]
    for key in named:
        if key not in known:
            near = get_close_matches(key, known, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
            raise UsageError(f"no dataset here has {key!r}: {hint}")


def _every(contract: Contract) -> list[Field]:
    return [*map(_feature_field, contract.features), *map(_camera_field, contract.cameras)]


def _feature_field(feature: Feature) -> Field:
    return Field(feature.name, "feature", feature.name, feature.dtype, feature.shape, is_action=feature.role == "action")


def _camera_field(camera: Camera) -> Field:
    key = IMAGES + camera.name
    if camera.role in NOT_RGB:
        return Field(key, "masks", camera.name, "int32", (1, camera.height, camera.width))
    return Field(key, "picture", camera.name, "uint8", (3, camera.height, camera.width))


def _with_offsets(field: Field, contract: Contract, windows: Windows) -> Field:
    offsets = _offsets(field, contract, windows)
    if offsets is None or field.dtype == "string":
        return field
    nanoseconds = tuple(to_ns(tuple(offsets)).tolist())
    return Field(field.key, field.kind, field.name, field.dtype, field.shape, nanoseconds, field.is_action)


def _offsets(field: Field, contract: Contract, windows: Windows) -> Sequence[float] | None:
    if isinstance(windows, Mapping):
        return windows.get(field.key)
    if not field.is_action:
        return (windows.observation_s or None) if field.key.startswith("observation.") else None
    if not windows.action_horizon_s:
        return None
    hz = windows.action_hz or contract.control_hz
    if not hz:
        raise UsageError(
            f"dataset {contract.dataset} states no control rate; set windows.action_hz to say how dense its action chunk is"
        )
    return chunk_offsets(windows.action_horizon_s, hz)
