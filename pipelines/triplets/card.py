"""The README of an image-pair dataset: what its configurations are, how it was mined, and how it is opened."""

from collections.abc import Mapping, Sequence
from typing import Any

_CARD = """\
---
{licence}task_categories:
- image-to-image
tags:
- robotics
- image-editing
- cotrain
configs:
{configs}
---

# {name}

Pairs of pictures of one camera between which one thing changed, with what was done in words; mined by cotrain from {episodes} episodes of
{dataset}. Licence: {stated}.

| configuration | holds | {heads} |
|---|---|{rules}|
{table}

A row of `triplets`: `source` and `target` (JPEG), `prompt`, `label` (`positive`, or a hard negative: `neg_reverse`, `neg_direction`,
`neg_scene`, `neg_no_change`, `neg_camera`; `of` names its positive), `edit_kind`, `confidence`, `mask` of what changed, boxes before and
after, `moved` (shares of width and height), and where both pictures come from. Train on `label == "positive"`; negatives are for
contrastive losses and for asking whether a model tells a change from none. Flip pictures left to right only where the prompt names no side.

`contrast` names triples of pairs: an anchor, the same action elsewhere, another action in the same place.

## Refused candidates

| filter | reason | candidates |
|---|---|---|
{refused}

`audit.html` shows {shown} accepted pairs, drawn by hash, for a person to judge.

## Open it

```python
from datasets import load_dataset

pairs = load_dataset("{name}", "triplets", split="train")
```
"""


def card(name: str, info: Mapping[str, Any], refused: Sequence[Mapping[str, Any]], shown: int) -> str:
    """Return the README's text; `info` is the content of `dataset.json`."""
    splits: list[str] = info["splits"]
    configs = "\n".join(_config(config, files) for config, files in info["files"].items())
    table = "\n".join(
        f"| `{config}` | {info['about'][config]} | " + " | ".join(str(files.get(s, {}).get("rows", 0)) for s in splits) + " |"
        for config, files in info["files"].items()
    )
    licence = info["licence"]
    return _CARD.format(
        licence=f"license: {licence.lower()}\n" if licence else "", configs=configs, name=name, episodes=info["episodes"], dataset=info["dataset"],
        stated=licence or "not stated by the source", heads=" | ".join(splits), rules="---|" * (len(splits) - 1) + "---", table=table,
        refused="\n".join(f"| {r['filter'] or ''} | {r['reason']} | {r['candidates']} |" for r in refused), shown=shown,
    )  # fmt: skip


def _config(name: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"- config_name: {name}"] + (["  default: true"] if name == "triplets" else [])
    return "\n".join(
        [*lines, "  data_files:", *(f"  - split: {split}\n    path: {file['path']}" for split, file in files.items())]
    )
