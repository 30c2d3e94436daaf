"""`meta/info.json`: what a LeRobot dataset declares, checked and turned into contract parts. Opens no other file."""

import json
import math
import re
import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from schemas.contract import Camera, Contract, Feature, FeatureRole, Stream
from schemas.errors import MalformedSourceError, MissingFileError
from schemas.shards import STEP_COLUMNS, STEP_FLAGS

INFO = "meta/info.json"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
LANGUAGE_COLUMNS = ("language_persistent", "language_events")
IMAGES = "observation.images."
RENAMED = "source."  # put before a feature whose name a step column already has
ROLES: dict[str, FeatureRole] = {"observation.state": "state", "action": "action", "next.reward": "reward"}
_OURS = {f.name for f in (*STEP_COLUMNS, *STEP_FLAGS)}
_INTEGER_FORMAT = re.compile(r"0?\d{0,2}d?")


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera as LeRobot declares it: its feature key, where its pictures are, and the declared `info` JSON."""

    camera: Camera
    key: str
    storage: Literal["video", "image"]
    info: Mapping[str, Any]

    @property
    def is_depth(self) -> bool:
        """Whether pixels are quantised distances."""
        return bool(self.info.get("is_depth_map") or self.info.get("video.is_depth_map"))


@dataclass(frozen=True, slots=True)
class Info:
    """A checked `info.json`. `columns` maps our feature names to parquet columns; `raw` is the file as it stands."""

    root: Path
    version: str
    fps: float
    features: tuple[Feature, ...]
    columns: Mapping[str, str]
    cameras: tuple[CameraSpec, ...]
    languages: tuple[str, ...]
    raw: Mapping[str, Any]

    @property
    def uri(self) -> str:
        """The file this was read from."""
        return str(self.root / INFO)

    def contract(self, dataset: str, licence: str | None) -> Contract:
        """Return the contract the declaration amounts to: what LeRobot does not say stays unsaid."""
        return Contract(
            dataset,
            "robot",
            str(self.raw.get("robot_type") or "unknown"),
            self.fps,
            self.features,
            tuple(c.camera for c in self.cameras),
            tuple(Stream(name, ("first_step", "stop_step"), unit="step") for name in self.languages),
            licence=licence or _card_licence(self.root),
        )


def read_raw(root: Path) -> dict[str, Any]:
    """Return `meta/info.json` as JSON.

    Raises:
        MissingFileError: there is none.
        MalformedSourceError: it is not a JSON object.
    """
    path = root / INFO
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist, so {root} is no LeRobot dataset", uri=str(path)) from error
    except (OSError, ValueError) as error:
        raise MalformedSourceError(f"{path} cannot be read: {error}", uri=str(path)) from error
    if not isinstance(raw, dict):
        raise MalformedSourceError(f"{path} holds a {type(raw).__name__}, not an object", uri=str(path))
    return {str(k): v for k, v in raw.items()}


def parse_info(root: Path, raw: Mapping[str, Any], problems: list[str]) -> Info:
    """Check the declaration; everything unusable is appended to `problems`, in words, and left out of the result."""
    fps = raw.get("fps")
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not math.isfinite(fps) or fps <= 0:
        problems.append(f"fps is {fps!r}, not a positive number")
        fps = 1.0
    declared = raw.get("features")
    if not isinstance(declared, dict) or not declared:
        problems.append("features is missing or empty")
        declared = {}
    features: list[Feature] = []
    cameras: list[CameraSpec] = []
    columns: dict[str, str] = {}
    for key, spec in declared.items():
        if key in INDEX_COLUMNS or key in LANGUAGE_COLUMNS:
            continue
        if not isinstance(spec, dict) or "dtype" not in spec or not _is_shape(spec.get("shape")):
            problems.append(f"feature {key!r} has no usable dtype and shape: {spec!r:.120}")
        elif spec["dtype"] in ("video", "image"):
            cameras.append(_camera(key, spec, float(fps)))
        elif (feature := _feature(key, spec, problems)) is not None:
            features.append(feature)
            columns[feature.name] = key
    twice = [n for n, count in Counter(c.camera.name for c in cameras).items() if count > 1]
    if twice:
        problems.append(f"several features would become the camera {twice[0]!r}")
    languages = tuple(name for name in LANGUAGE_COLUMNS if name in declared)
    version = str(raw.get("codebase_version", ""))
    return Info(root, version, float(fps), tuple(features), columns, tuple(cameras), languages, raw)


def check_template(name: str, template: Any, wanted: set[str], problems: list[str]) -> str:
    """Return a path template if it holds exactly the `wanted` fields with plain integer formats, else note the problem."""
    if not isinstance(template, str):
        problems.append(f"{name} is {template!r}, not a path template")
        return ""
    try:
        parts = [(f, s or "", c) for _, f, s, c in string.Formatter().parse(template) if f is not None]
    except ValueError as error:
        problems.append(f"{name} is {template!r}, which is no template: {error}")
        return ""
    fields = {f for f, _, _ in parts}
    if fields != wanted:
        problems.append(f"{name} is {template!r}, which names {sorted(fields) or 'nothing'} where {sorted(wanted)} belong")
        return ""
    if odd := [f for f, spec, conversion in parts if conversion or (f != "video_key" and not _INTEGER_FORMAT.fullmatch(spec))]:
        problems.append(f"{name} is {template!r}, whose {odd[0]} has an unusual format")
        return ""
    return template


def flat_names(names: Any) -> tuple[str, ...]:
    """Flatten the many shapes `names` comes in: null, a list, a list of lists, groups by name, or positions by name."""
    if names is None:
        return ()
    if isinstance(names, Mapping):
        if all(isinstance(v, int) for v in names.values()):
            return tuple(str(k) for k, _ in sorted(names.items(), key=lambda item: item[1]))
        return tuple(n for group in names.values() for n in flat_names(group))
    if isinstance(names, (list, tuple)):
        return tuple(n for part in names for n in flat_names(part))
    return (str(names),)


def camera_name(key: str) -> str:
    """Shorten a LeRobot camera key: `observation.images.cam.high` is `cam_high`, `observation.image` is `image`."""
    short = key.removeprefix(IMAGES).removeprefix("observation.")
    return re.sub(r"[^A-Za-z0-9_-]", "_", short)


def _camera(key: str, spec: Mapping[str, Any], fps: float) -> CameraSpec:
    shape, names = spec["shape"], flat_names(spec.get("names"))
    channels_first = bool(names) and names[0].startswith("channel")
    height, width = (shape[-2:] if channels_first else shape[:2]) if len(shape) == 3 else (0, 0)
    info = spec.get("info") or spec.get("video_info") or {}
    name = camera_name(key)
    known = info if isinstance(info, Mapping) else {}
    result = CameraSpec(Camera(name), key, spec["dtype"], known)
    camera = Camera(
        name,
        key="" if key == IMAGES + name else key,
        role="depth" if result.is_depth else _camera_role(name),
        width=int(width),
        height=int(height),
        fps=fps,
    )
    return CameraSpec(camera, key, spec["dtype"], known)


def _camera_role(name: str) -> Literal["wrist", "other"]:
    return "wrist" if "wrist" in name.lower() else "other"


def _feature(key: str, spec: Mapping[str, Any], problems: list[str]) -> Feature | None:
    dtype, shape = str(spec["dtype"]), tuple(int(n) for n in spec["shape"])
    if dtype == "string":
        if math.prod(shape) != 1:
            problems.append(f"feature {key!r} holds strings of shape {shape}; one string per step is what cotrain reads")
            return None
    else:
        try:
            usable = np.dtype(dtype).kind in "biuf"
        except TypeError:
            usable = False
        if not usable:
            problems.append(f"feature {key!r} has dtype {dtype!r}, which is neither numeric nor string, video or image")
            return None
    name = RENAMED + key if key in _OURS or key.startswith("frame.") else key
    return Feature(name, dtype, shape, flat_names(spec.get("names")), role=ROLES.get(key, "other"))


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in shape)


def _card_licence(root: Path) -> str | None:
    """Read the licence from the YAML head of a hub dataset card, the only place where LeRobot keeps one."""
    card = root / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(errors="replace").split("---", 2)
    found = (
        re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", head[1], re.MULTILINE) if len(head) == 3 and not head[0].strip() else None
    )
    return found.group(1) if found else None
