"""The README of an RLDS export: what is in it and how each trainer opens it."""

from typing import Any

from pipelines.exporters.base import ExportJob
from pipelines.exporters.rlds.layout import CameraPlan, Layout
from pipelines.formats.dataset_info import DatasetInfo
from pipelines.formats.tfds_features import Image, Leaf, Tensor, leaves

_CARD = """\
# {title}

{episodes} episodes, {steps} steps, embodiment {embodiment}{rate}, licence {licence}. RLDS in TFDS' TFRecord layout, written by cotrain.

| split | episodes | shards | bytes |
|---|---|---|---|
{splits}

## Features

| name | kind | meaning |
|---|---|---|
{features}

`is_last` steps: their action is {last}. `{version}/index.parquet` holds the shard, byte offset and length of every episode;
`{version}/dataset_statistics.json` the statistics of the train split, with the quantiles under Octo's names (p01, p99) and OpenVLA's
(q01, q99); `{version}/provenance.json` the contract and the source of every episode.
{notes}
## Open it

```python
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory("{folder}/{version}")
episodes = builder.as_dataset(split="train")
```

The trainers below call `tfds.builder("{name}", data_dir=...)`, so the folder that holds `{version}/` must be called `{name}`.

Octo:

```python
from octo.data.dataset import make_single_dataset

dataset = make_single_dataset(
    dict(
        name="{name}",
        data_dir="<parent of {name}>",
        image_obs_keys={image_keys},
        proprio_obs_key={proprio},
        language_key="language_instruction",
        dataset_statistics="<parent of {name}>/{name}/{version}/dataset_statistics.json",
        action_normalization_mask={mask},
    ),
    train=True,
)
```

OpenVLA (`prismatic/vla/datasets/rlds/oxe/configs.py` and `transforms.py`; choose the encodings that your action and state have):

```python
OXE_DATASET_CONFIGS["{name}"] = {{
    "image_obs_keys": {image_keys},
    "depth_obs_keys": {{"primary": None, "secondary": None, "wrist": None}},
    "state_obs_keys": [{proprio}],
    "state_encoding": StateEncoding.POS_EULER,
    "action_encoding": ActionEncoding.EEF_POS,
}}
OXE_STANDARDIZATION_TRANSFORMS["{name}"] = lambda trajectory: trajectory
```

openpi (its RLDS loader reads through dlimp; map these names in its `restructure`):

```python
import dlimp as dl

builder = tfds.builder("{name}", data_dir="<parent of {name}>")
dataset = dl.DLataset.from_rlds(builder, split="train", shuffle=True)
# trajectory["action"], {observed}, trajectory["language_instruction"]
```
"""


def card(job: ExportJob, layout: Layout, info: DatasetInfo, steps: int, statistics: dict[str, Any]) -> str:
    """Return the README's text."""
    contract = job.contract
    state = next((c.key for c in layout.columns if contract.feature(c.source).role == "state"), None)
    return _CARD.format(
        title=job.name,
        name=info.name,
        folder=info.name,
        version=info.version,
        episodes=len(job.episodes),
        steps=steps,
        embodiment=contract.embodiment,
        rate=f" at {contract.control_hz:g} Hz" if contract.control_hz else "",
        licence=contract.licence or "not stated by the source",
        last="a real action" if contract.last_action_valid else "padding, left out of the statistics",
        splits="\n".join(f"| {s.name} | {s.records} | {len(s.shard_lengths)} | {s.bytes} |" for s in info.splits),
        features="\n".join(f"| `{key}` | {_kind(leaf)} | {leaf.doc} |" for key, leaf in leaves(layout.root)),
        notes="".join(f"\n- {note}" for note in layout.notes) + ("\n" if layout.notes else ""),
        image_keys=repr(_image_keys(job, layout.cameras)),
        proprio=repr(state.rsplit("/", 1)[-1]) if state else "None",
        mask=statistics.get("action", {}).get("mask"),
        observed=", ".join(f'trajectory["observation"]["{_short(p.key)}"]' for p in layout.cameras) or "no pictures",
    )


def _kind(leaf: Leaf) -> str:
    match leaf:
        case Tensor():
            return f"{leaf.dtype}{list(leaf.shape)}" + (f", {leaf.encoding}" if leaf.encoding != "none" else "")
        case Image():
            height, width, channels = (dim if dim >= 0 else "?" for dim in leaf.shape)
            return f"{leaf.format} {width}x{height}x{channels}"
        case _:
            return "text"


def _image_keys(job: ExportJob, plans: tuple[CameraPlan, ...]) -> dict[str, str | None]:
    """Fill Octo's and OpenVLA's three places: the first wrist camera, and the first two others that are pictures of the scene."""
    roles = {camera.name: camera.role for camera in job.contract.cameras}
    pictures = [p for p in plans if roles[p.camera] not in ("depth", "segmentation") and p.image.format == "jpeg"]
    wrists = [_short(p.key) for p in pictures if roles[p.camera] == "wrist"]
    others = [_short(p.key) for p in pictures if roles[p.camera] != "wrist"]
    return {
        "primary": others[0] if others else None,
        "secondary": others[1] if len(others) > 1 else None,
        "wrist": wrists[0] if wrists else None,
    }


def _short(key: str) -> str:
    return key.rsplit("/", 1)[-1]
