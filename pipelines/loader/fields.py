"""What a sample of a dataset holds: one field per feature and camera, with the instants it covers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from schemas.contract import Camera, Contract, Feature, Stream
from schemas.errors import UsageError
from schemas.goals import GoalSpec
from schemas.mixture import Edge, StreamSpec, WindowSpec
from transforms.dropout import CONDITIONS
from transforms.windows import chunk_offsets, to_ns

type Windows = WindowSpec | Mapping[str, Sequence[float]]
IMAGES, OBSERVATION, STREAM = "observation.images.", "observation.", "stream."
TD_NUMBERS = {"td.steps": "int64", "td.reward": "float32", "td.discount": "float32", "td.success": "bool"}
NOT_RGB = ("depth", "segmentation")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a sample.

    Attributes:
        key: its name, LeRobot's way.
        kind: a number or string per step, an RGB picture, integer masks, a signal on its own clock, the age of another field, a
            number of the sample's own, what an annotator said, or what the draw says of itself.
        name: of the feature, camera or stream in the contract.
        dtype: numpy name, or `string`.
        shape: without time; pictures are (3, H, W), 0 where the contract does not say.
        offsets_ns: instants relative to the anchor; None: the anchor alone, without a time axis.
        is_action: whether a padding last action counts as padding.
        edge: what padded entries hold, see `transforms.windows.fill_edges`.
        relative: per scalar, whether it is a change or a speed; asked for by `zero_relative` only.
        latency_ns: how long after its capture a value is known.
        delay_ns: largest further delay, drawn per sample.
        delays_ns: what that delay is drawn from; empty: any from 0 to the largest.
        at: whose window it is: the anchor's, the goal's, that of the end of the chunk of temporal-difference learning, or one over a
            stream's own clock.
        oldest_ns: of a stream, the greatest age that is not padding.
        ahead_ns: how far after the anchor it certainly looks, whatever its offsets.
    """

    key: str
    kind: Literal["feature", "picture", "masks", "stream", "staleness", "number", "annotation", "drawn"]
    name: str
    dtype: str
    shape: tuple[int, ...]
    offsets_ns: tuple[int, ...] | None = None
    is_action: bool = False
    edge: Edge = "repeat"
    relative: tuple[bool, ...] = ()
    latency_ns: int = 0
    delay_ns: int = 0
    delays_ns: tuple[int, ...] = ()
    at: Literal["step", "goal", "next", "stream"] = "step"
    ahead_ns: int = 0
    oldest_ns: int | None = None

    @property
    def is_late(self) -> bool:
        """Whether what is read may be older than the instant asked for by more than the clock's own steps."""
        return bool(self.latency_ns or self.delay_ns)


def fields_of(contract: Contract, windows: Windows, keys: Sequence[str] | None = None) -> tuple[Field, ...]:
    """Return the fields of one dataset's samples.

    Args:
        contract: of the dataset.
        windows: a spec, or offsets in seconds per key as in LeRobot's `delta_timestamps`.
        keys: only these; None: everything that is not privileged, without depth and segmentation.

    Raises:
        UsageError: an action chunk is wanted at the dataset's own rate and its contract states none, or edges are to be
            `zero_relative` and it does not say what its action is relative to.
    """
    hidden = {f.name for f in contract.features if f.privileged}
    hidden |= {IMAGES + c.name for c in contract.cameras if c.privileged or c.role in NOT_RGB}
    wanted = [f for f in _every(contract) if (f.key not in hidden if keys is None else f.key in keys)]
    found = [_with_offsets(f, contract, windows) for f in wanted]
    found += _streams(contract, windows, keys)
    late = [_staleness(f) for f in found if _tells_staleness(f, windows)]
    return (*found, *late, *(_towards(found, contract, windows) if isinstance(windows, WindowSpec) else ()))


def reach_of(fields: Iterable[Field]) -> tuple[int, ...]:
    """Return every instant of the steps' clock that some field may look at, in nanoseconds around the anchor, sorted."""
    seen: set[int] = {0}
    for field in (f for f in fields if f.at != "stream"):
        for offset in field.offsets_ns or (0,):
            seen |= {offset - field.latency_ns, offset - field.latency_ns - field.delay_ns, field.ahead_ns}
    return tuple(sorted(seen))


def check_keys(contracts: Iterable[Contract], windows: Windows, keys: Sequence[str] | None) -> None:
    """Refuse keys that no dataset has.

    Raises:
        UsageError: `keys` or `windows` names such a key; the message gives the nearest ones.
    """
    every = list(contracts)
    known = sorted({f.key for c in every for f in _every(c)} | {STREAM + s.name for c in every for s in c.streams})
    named = [*(keys or ()), *(windows.latency_s if isinstance(windows, WindowSpec) else windows)]
    named += [STREAM + name for name in windows.streams] if isinstance(windows, WindowSpec) else []
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


def _streams(contract: Contract, windows: Windows, keys: Sequence[str] | None) -> list[Field]:
    """Return the streams of a contract that `windows` asks for; a stream that names no values is as wide as its samples are."""
    if isinstance(windows, WindowSpec):
        asked: Mapping[str, StreamSpec] = windows.streams
    else:
        asked = {k.removeprefix(STREAM): StreamSpec(tuple(v)) for k, v in windows.items() if k.startswith(STREAM)}
    found = [s for s in contract.streams if s.name in asked]
    seen = [s for s in found if (not s.privileged if keys is None else STREAM + s.name in keys)]
    return [_stream_field(s, asked[s.name]) for s in seen]


def _stream_field(stream: Stream, spec: StreamSpec) -> Field:
    latency, *offsets = to_ns((spec.latency_s, *spec.offsets_s)).tolist()
    oldest = None if spec.oldest_s is None else int(to_ns((spec.oldest_s,))[0])
    return Field(
        STREAM + stream.name, "stream", stream.name, "float32", (len(stream.names),), tuple(offsets), latency_ns=latency,
        at="stream", oldest_ns=oldest,
    )  # fmt: skip


def _with_offsets(field: Field, contract: Contract, windows: Windows) -> Field:
    offsets = _offsets(field, contract, windows)
    if field.dtype == "string":
        return field
    nanoseconds = None if offsets is None else tuple(to_ns(tuple(offsets)).tolist())
    found = replace(field, offsets_ns=nanoseconds)
    if not isinstance(windows, WindowSpec):
        return found
    delays = () if field.kind == "feature" else windows.vision_delays_s or (windows.vision_delay_s,)
    relative = _relative(field, contract) if windows.edge == "zero_relative" and field.kind == "feature" else ()
    latency, *drawn = to_ns((windows.latency_s.get(field.key, 0.0), *delays)).tolist()
    listed = tuple(drawn) if delays == windows.vision_delays_s else ()
    return replace(
        found, edge=windows.edge, relative=relative, latency_ns=latency, delay_ns=max(drawn, default=0), delays_ns=listed
    )


def _relative(field: Field, contract: Contract) -> tuple[bool, ...]:
    """Tell per scalar whether it is a change or a speed: by its part of the vector, else by the whole feature."""
    feature = contract.feature(field.name)
    says = [feature.representation] * feature.size
    for part in feature.parts:
        if part.representation is not None:
            says[part.start : part.stop] = [part.representation] * (part.stop - part.start)
    unknown = [i for i, said in enumerate(says) if said in (None, "normalised")]
    if field.is_action and unknown:
        raise UsageError(
            f"dataset {contract.dataset} does not say whether scalars {unknown} of {field.key} are absolute or relative, so "
            "edge = 'zero_relative' cannot fill them; state `representation` in a contract overlay, or choose 'repeat' or 'mask'"
        )
    return tuple(said in ("delta", "velocity") for said in says)


def _tells_staleness(field: Field, windows: Windows) -> bool:
    asked = isinstance(windows, WindowSpec) and windows.staleness
    return field.dtype != "string" and (field.kind == "stream" or field.is_late or (asked and field.key.startswith(OBSERVATION)))


def _staleness(field: Field) -> Field:
    return replace(
        field, key=f"{field.key}_staleness_s", kind="staleness", dtype="float32", shape=(), is_action=False, relative=()
    )


def _towards(found: Sequence[Field], contract: Contract, windows: WindowSpec) -> tuple[Field, ...]:
    """Return what goals, chunks of temporal-difference learning and dropout add."""
    seen = [f for f in found if f.key.startswith(OBSERVATION) and f.dtype != "string"]
    plain = [replace(f, offsets_ns=None, edge="repeat", relative=(), latency_ns=0, delay_ns=0, delays_ns=()) for f in seen]
    added: list[Field] = []
    if windows.goal is not None:
        entries = _goal_entries(windows.goal, contract)
        many = (0,) * entries if entries > 1 else None
        added += [replace(f, key=f"goal.{f.key.removeprefix(OBSERVATION)}", at="goal", offsets_ns=many) for f in plain]
        added.append(Field("goal.offset_s", "number", "goal.offset_s", "float32", ()))
    if windows.td is not None:
        ahead = int(to_ns((windows.td.horizon_s,))[0])
        added += [replace(f, key=f"next.{f.key.removeprefix(OBSERVATION)}", at="next", ahead_ns=ahead) for f in plain]
        added += [Field(key, "number", key, dtype, (), ahead_ns=ahead) for key, dtype in TD_NUMBERS.items()]
    if windows.dropout is not None:
        names = [f"dropped.{name}" for name in CONDITIONS if getattr(windows.dropout, name)]
        added += [Field(name, "number", name, "bool", ()) for name in names]
    return tuple(added)


def _goal_entries(goal: GoalSpec, contract: Contract) -> int:
    if not goal.distal:
        return 1
    if not contract.control_hz:
        raise UsageError(
            f"dataset {contract.dataset} states no control rate, so windows.goal.proximal_s has no length in steps; state the rate in "
            "a contract overlay, or leave proximal_s and distal out"
        )
    return max(1, round(goal.proximal_s * contract.control_hz)) + goal.distal


def _offsets(field: Field, contract: Contract, windows: Windows) -> Sequence[float] | None:
    if isinstance(windows, Mapping):
        return windows.get(field.key)
    if not field.is_action:
        return (windows.observation_s or None) if field.key.startswith(OBSERVATION) else None
    if not windows.action_horizon_s and not windows.action_past_s:
        return None
    return _chunk(contract, windows)


def _chunk(contract: Contract, windows: WindowSpec) -> Sequence[float]:
    hz = windows.action_hz or contract.control_hz
    if not hz:
        raise UsageError(
            f"dataset {contract.dataset} states no control rate; set windows.action_hz to say how dense its action chunk is"
        )
    past = [-k / hz for k in range(round(windows.action_past_s * hz), 0, -1)]
    return (*past, *chunk_offsets(windows.action_horizon_s, hz))
