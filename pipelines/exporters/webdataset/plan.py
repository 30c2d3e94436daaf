"""What a sample contains: the tar member of every camera and feature, decided before the first byte is written.

Names: a sample's members are `<key>.<camera>.jpg` or `.png`, `<key>.<feature>.npy` and `<key>.json`, so a feature keeps the dots
of its name (`observation.state.npy`). Readers of the format lower the case of what follows the key.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.exporters.base import ExportJob
from pipelines.exporters.rlds.layout import CameraPlan, Texts, is_action
from pipelines.exporters.rlds.survey import CameraSurvey, survey, wanted_cameras
from pipelines.exporters.splits import TRAIN, VAL
from pipelines.formats.tfds_features import Image
from schemas.contract import Camera, Feature
from schemas.errors import ContractError, UsageError

JSON = "json"  # the member with everything that is neither a picture nor an array


@dataclass(frozen=True, slots=True)
class Column:
    """One numeric feature and the member that holds its value at a step."""

    feature: Feature
    member: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan.

    `steps` of all episodes; `values` are the text features, `texts` the styles with their keys in a sample's `texts`; `notes` say
    what a user would not expect.
    """

    columns: tuple[Column, ...]
    values: tuple[Feature, ...]
    cameras: tuple[CameraPlan, ...]
    texts: tuple[Texts, ...]
    steps: int
    notes: tuple[str, ...]

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return what every member of a sample is, as JSON."""
        pictures = {
            c.key: {"kind": "picture", "camera": c.camera, "format": c.image.format, "dtype": c.image.dtype,
                    "shape": [n if n >= 0 else None for n in c.image.shape], "doc": c.image.doc}
            for c in self.cameras
        }  # fmt: skip
        arrays = {
            c.member: {"kind": "array", "feature": c.feature.name, "dtype": np.dtype(c.feature.dtype).name,
                       "shape": list(c.feature.shape), "names": list(c.feature.names)}
            for c in self.columns
        }  # fmt: skip
        about = {"kind": "json", "values": [f.name for f in self.values], "texts": [t.key for t in self.texts]}
        return {**pictures, **arrays, JSON: about}


def make_plan(job: ExportJob) -> Plan:
    """Decide the members of every sample.

    Raises:
        UsageError: there is nothing to export.
        ContractError: two members would share a name, or a dtype has no numpy form without pickle.
    """
    if not job.episodes:
        raise UsageError(f"{job.name}: no episodes were chosen, so there is nothing to export")
    found = survey(job)
    features = [f for f in job.contract.features if job.options.privileged or not f.privileged]
    columns = tuple(Column(f, f"{_plain(f.name)}.npy") for f in features if f.dtype != "string")
    for column in columns:
        if np.dtype(column.feature.dtype).kind not in "biufc":
            raise ContractError(
                f"feature {column.feature.name!r} has dtype {column.feature.dtype}, which is no number; make it one, or a string"
            )
    seen = [(c, found.cameras[c.name]) for c in wanted_cameras(job)]
    cameras = tuple(_camera(c, s, job.options.jpeg_quality) for c, s in seen if s.headers)
    _check_names(job.name, [*(c.member for c in columns), *(c.key for c in cameras)])
    values = tuple(f for f in features if f.dtype == "string")
    return Plan(columns, values, cameras, _texts(job), found.steps, tuple(_notes(job, seen, cameras)))


def member_name(text: str) -> str:
    """Return a member as readers of the format name it."""
    return text.lower()


def _check_names(dataset: str, members: Iterable[str]) -> None:
    known = {JSON}
    for member in members:
        if member_name(member) in known:
            raise ContractError(
                f"{dataset}: two features or cameras would both be {member_name(member)!r} in WebDataset, which ignores case; "
                "rename one in the contract"
            )
        known.add(member_name(member))


def _camera(camera: Camera, seen: CameraSurvey, quality: int) -> CameraPlan:
    headers = seen.headers
    height, width = next(iter(seen.sizes)) if len(seen.sizes) == 1 else (-1, -1)
    said = [camera.role, *(["channels stored as BGR"] if camera.colour_order == "bgr" else [])]
    if all(h.codec == "png" and h.rotation == 0 for h in headers) and len({h.pix_fmt for h in headers}) == 1:
        pixels = next(iter(headers)).pix_fmt
        channels = 1 if pixels.startswith(("gray", "ya")) else 3
        dtype = "uint16" if any(mark in pixels for mark in ("16", "48", "64")) else "uint8"
        image = Image((height, width, channels), "png", dtype, "; ".join([*said, "the source's PNG bytes"]))
        return CameraPlan(camera.name, f"{_plain(camera.name)}.png", image)
    copied = all(h.codec == "mjpeg" and h.rotation == 0 for h in headers)
    how = "the source's JPEG bytes" if copied else f"JPEG 4:2:0 of quality {quality}, made from {_codecs(seen)}"
    return CameraPlan(camera.name, f"{_plain(camera.name)}.jpg", Image((height, width, 3), "jpeg", doc="; ".join([*said, how])))


def _texts(job: ExportJob) -> tuple[Texts, ...]:
    pairs = sorted({(row.style, row.camera or "") for rows in job.language.values() for row in rows})
    return tuple(Texts(f"{style}.{camera}" if camera else style, style, camera or None) for style, camera in pairs)


def _notes(job: ExportJob, seen: list[tuple[Camera, CameraSurvey]], cameras: tuple[CameraPlan, ...]) -> Iterable[str]:
    formats = {c.camera: c.image.format for c in cameras}
    for camera, found in seen:
        if not found.headers:
            yield f"camera {camera.name} has no picture in any episode and is left out"
            continue
        if found.missing:
            yield f"{found.missing} steps have no picture of camera {camera.name}: black, named in `missing`"
        if len(found.sizes) > 1:
            sizes = ", ".join(f"{w}x{h}" for h, w in sorted(found.sizes))
            yield f"camera {camera.name} comes in several sizes ({sizes}); its shape is left open"
        if camera.role in ("depth", "segmentation") and formats[camera.name] == "jpeg":
            yield f"camera {camera.name} holds {camera.role} as {_codecs(found)}; JPEG keeps what it looks like, not its exact values"
    if streams := sorted(s.name for s in job.contract.streams):
        yield f"streams are not of steps and are left out: {', '.join(streams)}"
    if not any(is_action(f) for f in job.contract.features):
        yield "the dataset has no action; policy loaders need one"
    if empty := sum(int(e.row["steps"]) == 0 for e in job.episodes):
        yield f"{empty} episodes have no steps and give no sample"
    if {e.split for e in job.episodes} == {TRAIN}:
        yield f"all episodes are in {TRAIN}: there is no {VAL} shard"


def _codecs(seen: CameraSurvey) -> str:
    return " and ".join(sorted({h.codec for h in seen.headers}))


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
