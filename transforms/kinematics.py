"""Forward kinematics of serial chains: where is a link, given its joints? Read from a URDF, evaluated for many steps at once.

Revolute, continuous, prismatic and fixed joints; mimic joints and closed loops are not chains and are refused.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import UsageError
from transforms.rotation import F64, apply, exp, from_euler, multiply

_MOVES = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, slots=True)
class Joint:
    """One joint of a chain: a fixed step (metres, quaternion wxyz) and then its own motion about or along `axis`."""

    name: str
    kind: str
    shift: tuple[float, float, float]
    turn: tuple[float, float, float, float]
    axis: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Chain:
    """The joints from the root link to `tip`, in order."""

    tip: str
    joints: tuple[Joint, ...]

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the joints that move."""
        return tuple(j.name for j in self.joints if j.kind in _MOVES)

    def pose(self, q: Mapping[str, F64]) -> F64:
        """Return the tip's pose in the root's frame, float64[7, T]: x, y, z in metres, then the quaternion wxyz.

        Args:
            q: float64[T] radians (metres for prismatic joints) for every name in `moving`.
        """
        count = len(next(iter(q.values()))) if q else 1
        place: F64 = np.zeros((3, count))
        turn: F64 = np.tile(np.array([[1.0], [0.0], [0.0], [0.0]]), count)
        for joint in self.joints:
            place = place + apply(turn, _wide(joint.shift, count))
            turn = multiply(turn, _wide(joint.turn, count))
            if joint.kind == "prismatic":
                place = place + apply(turn, _along(joint.axis, q[joint.name]))
            elif joint.kind in _MOVES:
                turn = multiply(turn, exp(_along(joint.axis, q[joint.name])))
        return np.concatenate([place, turn])


def read_chain(urdf: str, tip: str) -> Chain:
    """Read the chain that ends in link `tip` out of the text of a URDF.

    Raises:
        UsageError: the text is no URDF, it has no such link, or the chain has a joint that is none of a serial chain's.
    """
    if "<!DOCTYPE" in urdf or "<!ENTITY" in urdf:
        raise UsageError("a URDF with a document type or entities is refused; save it without them")
    try:
        robot = ET.fromstring(urdf)  # noqa: S314 - no entities, as checked above
    except ET.ParseError as error:
        raise UsageError(f"the URDF is not XML: {error}") from error
    links = [link.get("name", "") for link in robot.iter("link")]
    if tip not in links:
        raise UsageError(f"the URDF has no link {tip!r}; it has {', '.join(links) or 'none'}")
    parents = {_name(joint, "child", "link"): joint for joint in robot.findall("joint")}
    chain: list[Joint] = []
    at = tip
    while at in parents and len(chain) <= len(parents):
        chain.append(_read(parents[at]))
        at = _name(parents[at], "parent", "link")
    if len(chain) > len(parents):
        raise UsageError(f"the joints above link {tip!r} form a loop; forward kinematics needs a serial chain")
    return Chain(tip, tuple(reversed(chain)))


def poses(chains: Sequence[Chain], names: Sequence[str], q: F64) -> list[F64]:
    """Return the pose of every chain's tip, float64[7, T] each.

    Args:
        chains: as read.
        names: of the joints in `q`.
        q: float64[J, T] radians or metres.

    Raises:
        UsageError: a chain moves a joint that is not among `names`.
    """
    known = dict(zip(names, q, strict=True))
    if missing := sorted({n for chain in chains for n in chain.moving} - set(known)):
        raise UsageError(
            f"the URDF moves {', '.join(missing)}, which the dataset does not record; it has {', '.join(names)}: "
            "rename the joints in the URDF or in the contract's feature names"
        )
    return [chain.pose({n: known[n] for n in chain.moving}) for chain in chains]


def _read(joint: ET.Element) -> Joint:
    name, kind = joint.get("name", ""), joint.get("type", "")
    if kind not in (*_MOVES, "fixed"):
        raise UsageError(
            f"joint {name!r} is {kind or 'of no type'}; only revolute, continuous, prismatic and fixed ones are read"
        )
    if joint.find("mimic") is not None:
        raise UsageError(f"joint {name!r} mimics another; forward kinematics needs a serial chain")
    origin, axis = joint.find("origin"), joint.find("axis")
    shift = _numbers(origin, "xyz", name, (0.0, 0.0, 0.0))
    angles = _numbers(origin, "rpy", name, (0.0, 0.0, 0.0))
    w, x, y, z = from_euler(np.array(angles)[:, None])[:, 0].tolist()
    along = np.array(_numbers(axis, "xyz", name, (1.0, 0.0, 0.0)))
    length = float(np.linalg.norm(along))
    if length == 0:
        raise UsageError(f"joint {name!r} has an axis of length zero")
    i, j, k = (along / length).tolist()
    return Joint(name, kind, shift, (w, x, y, z), (i, j, k))


def _numbers(
    element: ET.Element | None, key: str, joint: str, otherwise: tuple[float, float, float]
) -> tuple[float, float, float]:
    text = None if element is None else element.get(key)
    if text is None:
        return otherwise
    try:
        a, b, c = (float(t) for t in text.split())
    except ValueError as error:
        raise UsageError(f"joint {joint!r} has {key}={text!r}, which is not three numbers") from error
    return a, b, c


def _name(joint: ET.Element, child: str, key: str) -> str:
    found = joint.find(child)
    return "" if found is None else found.get(key, "")


def _along(axis: Sequence[float], amount: F64) -> F64:
    return np.array(axis, np.float64)[:, None] * amount


def _wide(values: Sequence[float], count: int) -> F64:
    return np.repeat(np.array(values, np.float64)[:, None], count, 1)
