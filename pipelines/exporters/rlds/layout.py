"""What an export contains: the feature tree, and for each leaf the lake column it comes from.

Names: a feature `observation.x` becomes `steps/observation/x`, actions become `steps/action`, other dots become underscores.
Numbers keep their meaning and every loader's eye: float64 is stored as float32 under its own name (TFRecord has nothing wider, and
trainers that skip TFDS' decoding see raw bytes otherwise), and once more, exact, as bytes under `<name>_float64`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.exporters.base import ExportJob
from pipelines.exporters.rlds.source_tree import source_tree
from pipelines.exporters.rlds.survey import CameraSurvey, Survey, wanted_cameras
from pipelines.formats.tfds_features import Group, Image, Leaf, Node, Sequence, Tensor, Text, features_json, parse_features
from pipelines.formats.tfds_slots import STEPS, Slot
from pipelines.sources.rlds.origin import Origin
from schemas.contract import Camera, Feature
from schemas.errors import ContractError, UsageError
from schemas.shards import CodecHeader

RAW_ABOVE = 64  # 8- and 16-bit grids with more cells than this are stored raw instead of as one varint per cell
EXACT = "_float64"
FLAGS: Mapping[str, Leaf] = {
    "reward": Tensor((), "float32", doc="0 where the source has none"),
    "discount": Tensor((), "float32", doc="1 where the source has none"),
    "is_first": Tensor((), "bool"),
    "is_last": Tensor((), "bool"),
    "is_terminal": Tensor((), "bool"),
    "timestamp_ns": Tensor((), "int64", doc="episode clock, nanoseconds"),
    "language_instruction": Text(),
}
METADATA: Mapping[str, Leaf] = {
    "episode_id": Text("cotrain's id: dataset and key in the source"),
    "file_path": Text("where the source recording is"),
    "source_dataset": Text(),
    "content_hash": Text("BLAKE3 of the episode's values and packets"),
    "license": Text(),
    "success": Tensor((), "int64", doc="1 yes, 0 no, -1 unknown"),
    "fps": Tensor((), "float32", doc="control rate, hertz"),
    "embodiment": Text(),
    "json": Text("everything else known about the episode"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One lake column on its way to one leaf. `statistics` tells whether trainers may want to normalise it."""

    key: str
    source: str
    leaf: Tensor | Text
    statistics: bool = False


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera. `flag`, where given, is the leaf that tells which steps see a real picture; the others get a black one."""

    camera: str
    key: str
    image: Image
    flag: str | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """The key under which an export keeps the text of one language style (of one camera, if given) that holds at each step."""

    key: str
    style: str
    camera: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole plan. `notes` says what a user would not expect.

    Where `origin` is given the tree is the source's own, and `source_tree` fills it; `columns` then only name what is measured.
    """

    root: Group
    columns: tuple[Column, ...]
    cameras: tuple[CameraPlan, ...]
    texts: tuple[Texts, ...]
    notes: tuple[str, ...]
    origin: Origin | None = None

    def declaration(self) -> str:
        """Return the text of `features.json`: the source's own where nothing was added to it."""
        return json.dumps(self.origin.features, indent=4) if self.origin and not self.texts else features_json(self.root)


def build_layout(job: ExportJob, found: Survey) -> Layout:
    """Decide every leaf of the export.

    Raises:
        ContractError: two features or cameras end up under one name, or a dtype has no TFDS form.
    """
    origin = source_tree(job, found)
    if origin is not None:
        return _source_layout(job, origin)
    columns = [c for f in job.contract.features if job.options.privileged or not f.privileged for c in _columns(f)]
    cameras = [
        _camera(c, found.cameras[c.name], job.options.jpeg_quality) for c in wanted_cameras(job) if found.cameras[c.name].headers
    ]
    texts = _texts(job)
    owners: dict[str, str] = {f"steps/{name}": "cotrain" for name in FLAGS}
    steps: dict[str, Node] = {}
    described: list[tuple[str, str, Leaf]] = [(c.key, f"feature {c.source}", c.leaf) for c in columns]
    for plan in cameras:
        described.append((plan.key, f"camera {plan.camera}", plan.image))
        if plan.flag:
            described.append(
                (plan.flag, f"camera {plan.camera}", Tensor((), "bool", doc=f"false where {plan.camera} has no picture"))
            )
    described += [(t.key, f"language style {t.style}", Text("the text that holds at this step")) for t in texts]
    for key, owner, leaf in described:
        if key in owners:
            raise ContractError(
                f"{job.name}: {owner} and {owners[key]} would both be {key!r} in RLDS; rename one in the contract"
            )
        owners[key] = owner
        _place(steps, key.split("/")[1:], leaf)
    steps |= FLAGS
    root = Group({"steps": Sequence(Group(steps), dataset=True), "episode_metadata": Group(METADATA)})
    return Layout(root, tuple(columns), tuple(cameras), texts, _notes(job, found))


def _source_layout(job: ExportJob, origin: Origin) -> Layout:
    root, texts = parse_features(json.dumps(origin.features), job.name), _texts(job)
    steps: Any = root.features[STEPS]
    taken = set(steps.feature.features)
    if doubled := [t.key for t in texts if t.key.removeprefix(f"{STEPS}/") in taken]:
        raise ContractError(f"{job.name}: {doubled[0]!r} is a leaf of the source and a text of an annotator; leave one out")
    added = {t.key.removeprefix(f"{STEPS}/"): Text("the text that holds at this step") for t in texts}
    root = Group({**root.features, STEPS: replace(steps, feature=Group({**steps.feature.features, **added}))}, root.doc)
    names = {f.name: f for f in job.contract.features}
    columns = [_measured(f.slot, names[f.name]) for f in origin.of_kind("feature")]
    cameras = tuple(
        CameraPlan(f.name, f.slot.key, f.slot.leaf) for f in origin.of_kind("camera") if isinstance(f.slot.leaf, Image)
    )
    notes = ("the features are the source's own, under their own names",)
    return Layout(root, tuple(c for c in columns if c), cameras, texts, notes, origin)


def _measured(slot: Slot, feature: Feature) -> Column | None:
    """Return the column of a numeric leaf; trainers normalise floats and integers alike."""
    if feature.dtype == "string" or not isinstance(slot.leaf, Tensor):
        return None
    measured = np.dtype(feature.dtype).kind in "fiu" and feature.size <= RAW_ABOVE * 16 and slot.leaf.encoding == "none"
    return Column(slot.key, feature.name, Tensor(feature.shape, feature.dtype), statistics=measured)


def is_action(feature: Feature) -> bool:
    """Tell whether a feature is an action, or a part of one."""
    return feature.role == "action" or feature.name == "action" or feature.name.startswith("action.")


def _columns(feature: Feature) -> list[Column]:
    key, doc = _key(feature), _doc(feature)
    if feature.dtype == "string":
        return [Column(key, feature.name, Text(doc))]
    dtype, shape = np.dtype(feature.dtype), feature.shape
    measured = dtype.kind in "fiu" and not feature.privileged and feature.role != "reward" and not key.startswith("steps/next")
    if dtype.kind == "f":
        rounded = Column(key, feature.name, Tensor(shape, "float32", doc=doc), statistics=measured)
        exact = Column(key + EXACT, feature.name, Tensor(shape, "float64", "bytes", f"exact values of {feature.name}"))
        return [rounded, exact] if dtype.itemsize > 4 else [rounded]
    if dtype.kind not in "biu":
        raise ContractError(
            f"feature {feature.name!r} has dtype {feature.dtype}, which TFDS cannot hold; make it float, integer or string"
        )
    raw = dtype.kind != "b" and dtype.itemsize <= 2 and feature.size > RAW_ABOVE
    return [
        Column(key, feature.name, Tensor(shape, dtype.name, "bytes" if raw else "none", doc), statistics=measured and not raw)
    ]


def _key(feature: Feature) -> str:
    name, observed = feature.name, "observation."
    if name.startswith(observed):
        return f"steps/observation/{_plain(name.removeprefix(observed))}"
    top = is_action(feature) or feature.role == "reward" or name.startswith("next.")
    return f"steps/{_plain(name)}" if top else f"steps/observation/{_plain(name)}"


def _doc(feature: Feature) -> str:
    said = [
        feature.representation,
        feature.rotation,
        feature.unit and f"in {feature.unit}",
        feature.frame and f"frame {feature.frame}",
    ]
    names = [", ".join(feature.names)] if feature.names else []
    return "; ".join([s for s in said if s] + names)


def _camera(camera: Camera, seen: CameraSurvey, quality: int) -> CameraPlan:
    headers = seen.headers
    height, width = next(iter(seen.sizes)) if len(seen.sizes) == 1 else (-1, -1)
    said = [camera.role] + (["channels stored as BGR"] if camera.colour_order == "bgr" else [])
    if all(h.codec == "png" and h.rotation == 0 for h in headers) and len({h.pix_fmt for h in headers}) == 1:
        pixels = next(iter(headers)).pix_fmt
        channels = 1 if pixels.startswith(("gray", "ya")) else 3
        depth = "uint16" if any(mark in pixels for mark in ("16", "48", "64")) else "uint8"
        image = Image((height, width, channels), "png", depth, "; ".join([*said, "the source's PNG bytes"]))
    else:
        copied = all(h.codec == "mjpeg" and h.rotation == 0 for h in headers)
        how = "the source's JPEG bytes" if copied else f"JPEG 4:2:0 of quality {quality}, made from {_codecs(headers)}"
        image = Image((height, width, 3), "jpeg", doc="; ".join([*said, how]))
    key = f"steps/observation/{_plain(camera.name)}"
    flag = f"steps/observation/has_{_plain(camera.name)}" if seen.missing else None
    return CameraPlan(camera.name, key, image, flag)


def _codecs(headers: set[CodecHeader]) -> str:
    return " and ".join(sorted({h.codec for h in headers}))


def _texts(job: ExportJob) -> tuple[Texts, ...]:
    pairs = sorted({(row.style, row.camera or "") for rows in job.language.values() for row in rows})
    return tuple(
        Texts(f"steps/language_{_plain(style)}" + (f"_{_plain(camera)}" if camera else ""), style, camera or None)
        for style, camera in pairs
    )


def _notes(job: ExportJob, found: Survey) -> tuple[str, ...]:
    notes: list[str] = []
    for name, seen in found.cameras.items():
        if not seen.headers:
            notes.append(f"camera {name} has no picture in any episode and is left out")
        elif seen.missing:
            notes.append(
                f"{seen.missing} steps have no picture of camera {name}: black, marked in observation/has_{_plain(name)}"
            )
        if len(seen.sizes) > 1:
            sizes = ", ".join(f"{w}x{h}" for h, w in sorted(seen.sizes))
            notes.append(f"camera {name} comes in several sizes ({sizes}); its shape is left open")
    wide = [f.name for f in job.contract.features if f.dtype == "float64" and (job.options.privileged or not f.privileged)]
    if wide:
        notes.append(
            f"float64 features are rounded to float32 under their names and exact under <name>{EXACT}: {', '.join(wide)}"
        )
    if not any(is_action(f) for f in job.contract.features):
        notes.append("the dataset has no action; policy loaders need one")
    return tuple(notes)


def version_folder(folder: Path, version: str) -> Path:
    """Return the folder TFDS opens.

    Raises:
        UsageError: `version` is not three numbers.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UsageError(f"version {version!r} is not one TFDS can read; use three numbers, for example 1.0.0")
    return folder / version


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]", "_", name)


def _place(tree: dict[str, Any], path: list[str], leaf: Leaf) -> None:
    """Put `leaf` at `path` of nested groups; at most one level (`observation`) below the steps."""
    if len(path) == 1:
        tree[path[0]] = leaf
        return
    group = tree.setdefault(path[0], Group({}))
    tree[path[0]] = Group({**group.features, path[1]: leaf})
