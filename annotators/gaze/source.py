"""Finds recorded gaze in a contract: which signal, what its columns mean, and the camera whose pictures it belongs to."""

from dataclasses import dataclass
from typing import Literal

from annotators.gaze.config import GazeConfig
from schemas.contract import Camera, Contract, Stream

Kind = Literal["shares", "shares_up", "pixels", "angles", "vergence"]
# What a point is told as, the first that fits: shares from the upper left, from the lower left (y counts up), pixels, angles in Aria's frame
_POINTS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("shares", ("gaze2d_x", "gaze2d_y")),
    ("shares", ("gp_x", "gp_y")),
    ("shares_up", ("norm_pos_x", "norm_pos_y")),
    ("pixels", ("x", "y")),
    ("vergence", ("left_yaw_rads_cpf", "right_yaw_rads_cpf", "pitch_rads_cpf")),
    ("angles", ("yaw_rads_cpf", "pitch_rads_cpf")),
)
_PLACES_MM = (("gaze3d_x", "gaze3d_y", "gaze3d_z"), ("gp3_x", "gp3_y", "gp3_z"))
_BOUNDS = (
    ("pitch_low_rads_cpf", "pitch_high_rads_cpf"),
    (
        ("yaw_low_rads_cpf", "yaw_high_rads_cpf"),
        ("left_yaw_low_rads_cpf", "left_yaw_high_rads_cpf"),
    ),
)
_FIRST = ("gaze_personalized", "gaze")
EYES = ("gaze_left", "gaze_right")  # one eye's own estimate is not the wearer's gaze
BESIDE = ("worn", "blinks", "fixations")  # signals that say which samples count, and what the device itself calls a fixation
ANGULAR = ("angles", "vergence")


@dataclass(frozen=True, slots=True)
class GazeSource:
    """Recorded gaze of a dataset.

    Attributes:
        stream: the signal.
        kind: how a sample tells its point.
        point: columns of the point.
        depth: column of the distance in metres, or three of a place in millimetres; empty where nothing measured it.
        bounds: columns low, high of pitch and of yaw, 95 % intervals; empty where there are none.
        confidence: column; None where the device states none.
        worn: column, 0 where the device was not on a head; None where it does not say so beside its gaze.
        beside: other signals that are read along.
        camera: None where no camera looks where the head does.
    """

    stream: Stream
    kind: Kind
    point: tuple[int, ...]
    depth: tuple[int, ...]
    bounds: tuple[int, ...]
    confidence: int | None
    worn: int | None
    beside: tuple[str, ...]
    camera: Camera | None

    @property
    def streams(self) -> tuple[str, ...]:
        """Every signal that is read."""
        return (self.stream.name, *self.beside)

    @property
    def rays(self) -> bool:
        """Whether directions are known: angles were told, or the camera's lens is."""
        return self.kind in ANGULAR or (self.camera is not None and self.camera.intrinsics is not None)


def find_gaze(contract: Contract, config: GazeConfig) -> GazeSource | str:
    """Return where a dataset's gaze is, or why it has none that can be read: `no_gaze`, `gaze_unreadable`, `no_picture_size`."""
    named = [s for s in contract.streams if s.name == config.stream or (config.stream is None and _is_gaze(s.name))]
    if not named:
        return "no_gaze"
    ranked = sorted(named, key=lambda s: _FIRST.index(s.name) if s.name in _FIRST else len(_FIRST))
    chosen = next(((s, *p) for s in ranked if (p := _point(s)) is not None), None)
    if chosen is None:
        return "gaze_unreadable"
    stream, kind, point = chosen
    camera = _camera(contract, config.camera, kind)
    if kind == "pixels" and (camera is None or not camera.width or not camera.height):
        return "no_picture_size"
    have = {s.name for s in contract.streams}
    confidence, worn = (stream.names.index(n) if n in stream.names else None for n in ("confidence", "worn"))
    beside = tuple(n for n in BESIDE if n in have)
    return GazeSource(stream, kind, point, _depth(stream), _bounds(stream), confidence, worn, beside, camera)


def _is_gaze(name: str) -> bool:
    return name in _FIRST or (name.startswith("gaze") and name not in EYES)


def _point(stream: Stream) -> tuple[Kind, tuple[int, ...]] | None:
    for kind, names in _POINTS:
        if set(names) <= set(stream.names):
            return kind, tuple(stream.names.index(n) for n in names)
    return None


def _depth(stream: Stream) -> tuple[int, ...]:
    if "depth_m" in stream.names:
        return (stream.names.index("depth_m"),)
    found = next((p for p in _PLACES_MM if set(p) <= set(stream.names)), ())
    return tuple(stream.names.index(n) for n in found)


def _bounds(stream: Stream) -> tuple[int, ...]:
    pitch, yaws = _BOUNDS
    yaw = next((y for y in yaws if {*pitch, *y} <= set(stream.names)), None)
    return tuple(stream.names.index(n) for n in (*pitch, *yaw)) if yaw else ()


def _camera(contract: Contract, name: str | None, kind: Kind) -> Camera | None:
    known = [c for c in contract.cameras if c.name == name or (name is None and c.role == "ego")]
    if kind in ANGULAR:
        known = [c for c in known if c.width and c.height]
    return known[0] if known else None
