"""Fixtures every room uses: an empty lake, and the real recordings where they are present."""

import os
from pathlib import Path

import pytest

from catalog.lake import Lake

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.at(tmp_path / "lake")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings; tests use it in place and never copy it in."""
    folder = Path(os.environ.get("COTRAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data is absent: {folder} (set COTRAIN_TEST_DATA)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run `tests/flows` last: once Prefect has started its threads, forked DataLoader workers of this process exit with an error."""
    items.sort(key=lambda item: "flows" in Path(item.path).relative_to(ROOT).parts)
