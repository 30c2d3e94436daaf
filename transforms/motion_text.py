"""Motion codes to text, and joint names to words. The code is the label; the text is one rendering of it and can change freely.

Words of direction assume: base and user frames x forward, y left, z up; camera frames x right, y down, z forward (OpenCV); joints
with the axes of REP-103 (roll about x, pitch about y, yaw about z), so that a positive pitch points down.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AxisKind = Literal["translation", "rotation", "gripper", "base", "joint"]
FrameRef = Literal["base", "camera", "ee", "user"]
Words = tuple[str, str]  # for the negative and the positive sign

STILL = "hold still"

_FLU: tuple[Words, ...] = (
    ("backward", "forward"), ("right", "left"), ("down", "up"),
    ("roll left", "roll right"), ("tilt up", "tilt down"), ("rotate clockwise", "rotate counterclockwise"),
)  # fmt: skip
_RDF: tuple[Words, ...] = (
    ("left", "right"), ("up", "down"), ("toward the camera", "away from the camera"),
    ("tilt down", "tilt up"), ("turn left", "turn right"), ("rotate counterclockwise", "rotate clockwise"),
)  # fmt: skip
_OWN: tuple[Words, ...] = (
    *((f"along its -{a}", f"along its +{a}") for a in "xyz"),
    *((f"turn about its -{a}", f"turn about its +{a}") for a in "xyz"),
)
POSE_WORDS: Mapping[FrameRef, tuple[Words, ...]] = {"base": _FLU, "user": _FLU, "camera": _RDF, "ee": _OWN}
BASE_WORDS: tuple[Words, ...] = (
    ("drive backward", "drive forward"), ("drive right", "drive left"), ("turn base right", "turn base left"),
)  # fmt: skip

_HAND = {"hand", "finger", "thumb", "index", "middle", "ring", "pinky", "little", "gripper", "claw", "jaw"}
_LEG = {"hip", "knee", "ankle", "leg", "foot"}
_TORSO = {"waist", "torso", "spine", "trunk"}
_HEAD = {"neck", "head"}
_ARM = {"shoulder", "elbow", "wrist", "arm", "forearm", "upperarm"}
_NOISE = {"k", "joint", "joints", "pos", "position", "qpos", "link", "main", "state", "action", "target"}
_TURN: Words = ("right", "left")
_PITCH: Words = ("up", "down")
_ROLL: Words = ("counterclockwise", "clockwise")
_AXIS_WORDS: Mapping[str, Words] = {
    "yaw": _TURN, "pan": _TURN, "waist": _TURN, "pitch": _PITCH, "tilt": _PITCH, "elbow": _PITCH, "knee": _PITCH, "flex": _PITCH,
    "lift": _PITCH, "angle": _PITCH, "shoulder": _PITCH, "roll": _ROLL, "rotate": _ROLL, "rotation": _ROLL,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of motion: what moves (`who`, empty where there is only one), and the words for its two directions."""

    name: str
    kind: AxisKind
    who: str = ""
    words: Words = ("-", "+")


@dataclass(frozen=True, slots=True)
class Joint:
    """What a joint's name says. `limb` groups joints that move together; `hand` marks fingers and grippers."""

    name: str
    side: str
    limb: str
    label: str
    hand: bool
    spread: bool  # turns a thumb or finger sideways: neither opens nor closes
    words: Words


def read_joint(name: str) -> Joint | None:
    """Read a joint name such as `kLeftShoulderPitch`, `left_wrist_rotate.pos`, `waist` or `joint_3`; None if it names no joint."""
    parts: list[str] = [p.lower() for p in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    short = {"l": "left", "r": "right"}
    sides: list[str] = [short.get(p, p) for p in parts]
    side = next((p for p in sides if p in ("left", "right")), "")
    rest = [p for p in sides if p not in ("left", "right") and p not in _NOISE]
    known = set(rest)
    hand = bool(known & _HAND)
    limb = "hand" if hand else next((n for n, w in (("leg", _LEG), ("torso", _TORSO), ("head", _HEAD)) if known & w), "arm")
    numbered = any(p in ("joint", "motor") for p in parts) and bool(rest) and rest[-1].isdigit()
    if not (hand or known & (_ARM | _LEG | _TORSO | _HEAD) or numbered or (known & set(_AXIS_WORDS) and len(rest) > 1)):
        return None
    label = " ".join(rest) if not numbered or len(rest) > 1 else f"joint {rest[-1]}"
    words = next((_AXIS_WORDS[p] for p in reversed(rest) if p in _AXIS_WORDS), ("negative", "positive"))
    spread = hand and bool(known & {"rotation", "rotate", "yaw", "spread", "abduction"})
    return Joint(name, side, limb, " ".join(filter(None, (side, label))), hand, spread, words)


def phrase(
    axes: tuple[Axis, ...], code: tuple[int, ...], order: tuple[int, ...], levels: tuple[int, ...] = (), max_parts: int = 3
) -> str:
    """Write a code as text, strongest part first: "move arm forward and slightly left, rotate clockwise, close gripper".

    Args:
        axes: what each entry of the code means.
        code: one sign per axis; a base's is the number of its motion in `BASE_WORDS`, signed.
        order: axes by descending strength.
        levels: -1 slightly, 0, +1 quickly per axis; empty for no adverbs.
        max_parts: at most this many parts; all translations of an arm are one part, and so are all its rotations.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for place in order:
        axis, sign = axes[place], code[place]
        if not sign:
            continue
        word = (BASE_WORDS[abs(sign) - 1] if axis.kind == "base" else axis.words)[sign > 0]
        if levels and levels[place]:
            word = f"{'slightly' if levels[place] < 0 else 'quickly'} {word}"
        alone = axis.name if axis.kind in ("joint", "base") else axis.who
        parts.setdefault((axis.kind, alone), []).append(_clause(axis, word))
    clauses = [_join(kind, who, words) for (kind, who), words in parts.items()]
    return ", ".join(clauses[:max_parts]) or STILL


def _clause(axis: Axis, word: str) -> str:
    match axis.kind:
        case "rotation" if axis.who:
            verb, _, rest = word.partition(" ")
            return f"{verb} {axis.who} {rest}"
        case "gripper":
            return f"{word} {axis.who or 'gripper'}"
        case "joint":
            return f"{axis.who} {word}"
        case _:
            return word


def _join(kind: str, who: str, words: list[str]) -> str:
    joined = " and ".join(words)
    return f"move {who or 'arm'} {joined}" if kind == "translation" else joined
