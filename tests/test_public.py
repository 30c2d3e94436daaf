"""The public face: exactly these names, loaded lazily, and they work together."""

import subprocess
import sys
from pathlib import Path

import pytest

import cotrain
from catalog.lake import Lake
from tests.support.toys import ingest_toy

ROOT = Path(__file__).resolve().parents[1]
NAMES = [
    "CotrainError", "Lake", "annotate", "curate", "export", "ingest", "load", "mix", "open_lake", "query", "score", "verify",
]  # fmt: skip


def test_the_names_are_these_and_no_others() -> None:
    assert dir(cotrain) == cotrain.__all__ == NAMES
    assert all(callable(getattr(cotrain, name)) for name in NAMES)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="open_lake"):
        cotrain.open_lakes  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, cotrain; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(out.stdout.split()) & {"torch", "pyarrow", "polars", "numpy", "lerobot", "prefect"}


def test_a_notebook_session(lake: Lake) -> None:
    ingest_toy(lake)
    home = cotrain.open_lake(lake.root)
    assert cotrain.query("SELECT count(*) AS n FROM episodes", home).item() == 4
    report = cotrain.annotate("language_motion", home)
    assert report.total("rows") > 0
    mixture = cotrain.mix('name = "m"\nsamples = 20\n[[sources]]\nname = "toy"\n', home)
    assert mixture.samples == 20
    sample = cotrain.load("m", home)[0]
    assert {"action", "observation.state", "observation.images.front", "task"} <= set(sample)
