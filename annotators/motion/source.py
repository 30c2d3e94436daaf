"""Finds what moves in a dataset's contract: end-effector poses, joints, hands, a base. Reads declared parts first, names second."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from schemas.contract import Contract, Feature, Part, Representation, Rotation
from transforms.motion_text import Joint, read_joint

Prefer = Literal["auto", "proprio", "action"]
_POSITION = ("x", "y", "z")
_TURNS: dict[tuple[str, ...], Rotation] = {
    ("roll", "pitch", "yaw"): "euler_xyz", ("qw", "qx", "qy", "qz"): "quat_wxyz", ("qx", "qy", "qz", "qw"): "quat_xyzw",
}  # fmt: skip
_METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "cm": 0.01, "mm": 0.001}
_RADIANS = {"rad": 1.0, "radian": 1.0, "deg": math.pi / 180, "degree": math.pi / 180}
FULL_SCALE = "full scale"
_STROKE_M = 0.08  # between the fingers of a common parallel gripper


@dataclass(frozen=True, slots=True)
class Slot:
    """Some numbers of one step column, and what they mean.

    Attributes:
        column: the step column.
        index: which of its numbers.
        scale: factor to metres or radians.
        unit: `m`, `rad` or `full scale` (a normalised command).
        stated: whether the contract states the unit; if not, `scale` is an assumption that the data must not contradict.
        representation: absolute values integrate to themselves, deltas and velocities to a displacement.
        rotation: how a rotation is stored.
        frame: the frame the contract names.
        closed: value of a closed gripper.
        opened: value of an open one.
        unsigned: whether only its size counts, as for two fingers that part.
    """

    column: str
    index: tuple[int, ...]
    scale: float = 1.0
    unit: str = "m"
    stated: bool = False
    representation: Representation = "absolute"
    rotation: Rotation | None = None
    frame: str | None = None
    closed: float = 0.0
    opened: float = 1.0
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Arm:
    """One end effector. `who` is empty where there is only one."""

    who: str
    position: Slot
    rotation: Slot | None = None
    gripper: Slot | None = None


@dataclass(frozen=True, slots=True)
class Hand:
    """One hand or gripper of a joint-only robot: the mean opening of its fingers."""

    who: str
    slot: Slot


@dataclass(frozen=True, slots=True)
class MotionSource:
    """Where motion is read from: arms, or joints and hands; and a base."""

    kind: Literal["proprio", "action"]
    arms: tuple[Arm, ...] = ()
    joints: tuple[Joint, ...] = ()
    joint_slot: Slot | None = None
    hands: tuple[Hand, ...] = ()
    base: Slot | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every slot that is read."""
        arms = [s for a in self.arms for s in (a.position, a.rotation, a.gripper)]
        return tuple(s for s in (*arms, self.joint_slot, *(h.slot for h in self.hands), self.base) if s is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every step column that is read."""
        return tuple(dict.fromkeys(s.column for s in self.slots))


def find_source(contract: Contract, prefer: Prefer = "auto") -> MotionSource | None:
    """Return the best motion source a contract offers, or None.

    End-effector proprioception comes first, then end-effector actions (absolute, then deltas and velocities). Robots that only tell
    joints are read from their actions (absolute joint targets), or from joint proprioception where they have no actions: without
    a kinematic model, joints stay joints. `prefer` limits the choice to `proprio` or `action`.
    """
    state = [f for f in contract.features if _is_state(f)]
    action = [f for f in contract.features if f.role == "action" and not f.privileged]
    base = next((s for f in state for s in _base(f)), None)
    choices: list[MotionSource | None] = [
        _arms("proprio", state, ("absolute",), base),
        _arms("action", action, ("absolute",), base),
        _arms("action", action, ("delta", "velocity", "normalised"), base),
        _joints("action", action, base),
        _joints("proprio", state, base),
        None if base is None else MotionSource("proprio", base=base),
    ]
    return next((c for c in choices if c is not None and prefer in ("auto", c.kind)), None)


def _is_state(feature: Feature) -> bool:
    known = feature.role in ("state", "ee_position", "ee_rotation", "gripper", "joint_position", "base_pose")
    return known and not feature.privileged


def _arms(
    kind: Literal["proprio", "action"], features: Sequence[Feature], how: tuple[Representation, ...], base: Slot | None
) -> MotionSource | None:
    """Pair the n-th position with the n-th rotation and the n-th gripper: that is how two-armed robots lay out their vectors."""
    found: dict[str, list[tuple[Feature, Part]]] = {"ee_position": [], "ee_rotation": [], "gripper": []}
    for feature in features:
        for part in _parts(feature):
            role = "ee_position" if part.role == "action" and part.stop - part.start == 3 else part.role
            if role in found:
                found[role].append((feature, part))
    places = [(f, p) for f, p in found["ee_position"] if p.stop - p.start == 3 and _how(f, p, kind) in how]
    arms: list[Arm] = []
    for at, (feature, part) in enumerate(places):
        turn = _nth(found["ee_rotation"], at)
        if turn is not None and not _can_turn(turn, kind, how):
            turn = None
        grip = _nth(found["gripper"], at)
        position = _slot(feature, part, _METRES, kind)
        if position is None:
            return None
        rotation = _slot(*turn, _RADIANS, kind) if turn else None
        arms.append(Arm(_who(feature, part, at, len(places)), position, rotation, _grip(*grip) if grip else None))
    return MotionSource(kind, tuple(arms), base=base) if arms else None


def _joints(kind: Literal["proprio", "action"], features: Sequence[Feature], base: Slot | None) -> MotionSource | None:
    for feature in features:
        named = [(i, j) for i, n in enumerate(feature.names) if (j := read_joint(n)) is not None]
        marked = {i for p in _parts(feature) if p.role == "joint_position" for i in range(p.start, p.stop)}
        moving = [(i, j) for i, j in named if not j.hand and (not marked or i in marked)]
        moving += [(i, _numbered(feature, i)) for i in sorted(marked - {i for i, _ in named})]
        hands = tuple(_hands(feature, named))
        if (not moving and not hands) or (feature.representation or "absolute") != "absolute":
            continue
        part = Part("joint_position", 0, feature.size)
        unit = next((p.unit for p in feature.parts if p.role == "joint_position"), None)
        slot = _slot(feature, replace(part, unit=unit), _RADIANS, kind)
        if slot is None:
            continue
        moving.sort()
        slot = replace(slot, index=tuple(i for i, _ in moving))
        return MotionSource(kind, joints=tuple(j for _, j in moving), joint_slot=slot if moving else None, hands=hands, base=base)
    return None


def _hands(feature: Feature, named: list[tuple[int, Joint]]) -> Iterator[Hand]:
    """Group finger joints by side; a contract's gripper parts say how they open, otherwise 1 is open, as everywhere in the lake."""
    declared = [p for p in feature.parts if p.role == "gripper"]
    if declared:
        for at, part in enumerate(declared):
            inside = {j.side for i, j in named if part.start <= i < part.stop}
            side = inside.pop() if len(inside) == 1 else ("" if len(declared) == 1 else f"{at + 1}.")
            spread = {i for i, j in named if j.spread}
            slot = _grip(feature, part)
            yield Hand(_noun(side, part.stop - part.start), replace(slot, index=tuple(i for i in slot.index if i not in spread)))
        return
    for side in dict.fromkeys(j.side for _, j in named if j.hand):
        index = tuple(i for i, j in named if j.hand and j.side == side and not j.spread)
        if index and feature.unit not in _RADIANS:
            yield Hand(_noun(side, len(index)), Slot(feature.name, index, unit="opening"))


def _noun(side: str, fingers: int) -> str:
    return f"{side} {'hand' if fingers > 1 else 'gripper'}".strip()


def _base(feature: Feature) -> Iterator[Slot]:
    for part in _parts(feature):
        size = part.stop - part.start
        if part.role == "base_pose" and size in (3, 7):
            slot = _slot(feature, part, _METRES, "proprio")
            if slot is not None:
                yield slot


def _parts(feature: Feature) -> tuple[Part, ...]:
    if feature.parts:
        return feature.parts
    if feature.role in ("ee_position", "ee_rotation", "gripper", "joint_position", "base_pose"):
        return (Part(feature.role, 0, feature.size, feature.representation, feature.rotation, feature.unit, feature.frame),)
    return tuple(_named_parts(feature.names))


def _named_parts(names: Sequence[str]) -> Iterator[Part]:
    """Recognise x, y, z followed by roll, pitch, yaw or a quaternion, and grippers, by their names alone."""
    tails = [n.lower().replace(".", "_").replace("/", "_").rsplit("_", 1)[-1] for n in names]
    for i in range(len(tails)):
        if tuple(tails[i : i + 3]) == _POSITION:
            yield Part("ee_position", i, i + 3)
        for words, rotation in _TURNS.items():
            if i >= 3 and tuple(tails[i : i + len(words)]) == words and tuple(tails[i - 3 : i]) == _POSITION:
                yield Part("ee_rotation", i, i + len(words), rotation=rotation)
        if tails[i] in ("gripper", "grip"):
            yield Part("gripper", i, i + 1)


def _slot(feature: Feature, part: Part, units: dict[str, float], kind: str) -> Slot | None:
    """Build a slot; None where the contract names a unit that is not one of `units`: pixels are no metres."""
    name, how = (part.unit or feature.unit or "").lower(), _how(feature, part, kind) or "absolute"
    index, frame = tuple(range(part.start, part.stop)), part.frame or feature.frame
    rotation = part.rotation or feature.rotation
    if how == "normalised" or name in ("normalised", "normalized", FULL_SCALE):
        # A command in fractions of full scale is a speed; a normalised position has no length.
        return Slot(feature.name, index, 1.0, FULL_SCALE, True, "velocity", rotation, frame) if kind == "action" else None
    if rotation and rotation.startswith("quat"):
        name = ""  # quaternions have no unit, whatever the vector around them has
    if name and name.rstrip("s") not in units:
        return None
    if not name and how in ("delta", "velocity"):
        return Slot(feature.name, index, 1.0, FULL_SCALE, True, "velocity", rotation, frame)
    scale = units.get(name.rstrip("s"), 1.0)
    return Slot(feature.name, index, scale, "m" if units is _METRES else "rad", bool(name), how, rotation, frame)


def _grip(feature: Feature, part: Part) -> Slot:
    """Build a gripper's slot. Where its ends are not stated, 0 is closed and 1 is open, or 8 cm between its fingers if it is in metres."""
    closed, opened = part.gripper_closed, part.gripper_open
    index = tuple(range(part.start, part.stop))
    if closed is not None and opened is not None and closed != opened:
        return Slot(feature.name, index, unit="opening", stated=True, closed=closed, opened=opened)
    metres = _METRES.get((part.unit or feature.unit or "").lower().rstrip("s"))
    if metres is not None:
        return Slot(feature.name, index, unit="opening", opened=_STROKE_M / len(index) / metres, unsigned=True)
    return Slot(feature.name, index, unit="opening")


def _how(feature: Feature, part: Part, kind: str) -> Representation | None:
    """Return how a part is represented. Proprioception that does not say is absolute; an action that does not say is unknown."""
    return (
        part.representation
        or feature.representation
        or ("absolute" if kind == "proprio" or part.role == "joint_position" else None)
    )


def _can_turn(found: tuple[Feature, Part], kind: str, how: tuple[Representation, ...]) -> bool:
    """Absolute rotations are read in any form; small turns must be vectors, which add up."""
    feature, part = found
    rotation = part.rotation or feature.rotation
    vectors = how == ("absolute",) or rotation in ("euler_xyz", "axis_angle")
    return rotation is not None and vectors and _how(feature, part, kind) in how


def _who(feature: Feature, part: Part, at: int, count: int) -> str:
    if count == 1:
        return ""
    text = " ".join([feature.name, *feature.names[part.start : part.stop]]).lower()
    side = next((s for s in ("left", "right") if s in text), None)
    return f"{side} arm" if side else f"arm {at + 1}"


def _nth(found: list[tuple[Feature, Part]], at: int) -> tuple[Feature, Part] | None:
    return found[at] if at < len(found) else None


def _numbered(feature: Feature, at: int) -> Joint:
    name = feature.names[at] if at < len(feature.names) else f"joint_{at}"
    return Joint(name, "", "arm", name.replace("_", " "), hand=False, spread=False, words=("negative", "positive"))
