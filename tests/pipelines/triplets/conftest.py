"""One lake of the drawn table, mined and written once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from pipelines.cli.app import run
from tests.support.table_source import ingest_table


@dataclass(frozen=True)
class Written:
    """A lake, the folder written from it, and what that folder says about itself."""

    lake: Lake
    folder: Path
    info: dict[str, Any]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("triplets")
    lake = Lake.at(root / "lake")
    ingest_table(lake)
    arguments = ["triplets", "table", "--out", str(root / "out"), "--split", "hash", "--val-share", "0", "--audit", "7"]
    assert run([*arguments, "--lake", lake.root, "--workers", "0"]) == 0
    folder = root / "out" / "table"
    return Written(lake, folder, json.loads((folder / "dataset.json").read_text()))
