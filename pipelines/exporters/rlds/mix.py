"""A mixture as the mix file that Octo's and OpenVLA's loaders take: dataset names and sampling weights."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipelines.mixture.manifest import Mixture
from pipelines.mixture.oxe import mix_body

MIX = "oxe_mix.json"


def dataset_shares(mixture: Mixture) -> dict[str, float]:
    """Return each dataset's share of the mixture's train draws: its sources' draws, by its items in each."""
    drawn = {share.name: share.draws / len(mixture.plan) for share in mixture.shares}
    shares: dict[str, float] = {}
    for source, dataset, count, total in mixture.index.dataset_items("train").iter_rows():
        shares[dataset] = shares.get(dataset, 0.0) + drawn[source] * count / total
    return shares


def write_mix(mixture: Mixture, folders: Mapping[str, str], out: Path) -> Path:
    """Write `oxe_mix.json` beside the exported datasets.

    Args:
        mixture: what was exported.
        folders: dataset to exported folder; datasets without an export (no actions) are left out and the weights scaled to sum to 1.
        out: the folder the datasets were exported to.

    Returns:
        The file: `name`, and `mix`, a list of `[TFDS name, weight]` for `make_interleaved_dataset(..., balance_weights=False)`.
    """
    shares = {d: s for d, s in dataset_shares(mixture).items() if d in folders}
    total = sum(shares.values())
    body = mix_body(mixture, {d: s / total for d, s in shares.items()})
    path = out / MIX
    path.write_text(json.dumps(body, indent=2) + "\n")
    return path
