"""One lake of two toy datasets, for tests that only read it or add mixtures of their own name."""

import pytest

from catalog.lake import Lake
from tests.support.mixtures import ingest_two_toys


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return ingest_two_toys(Lake.at(tmp_path_factory.mktemp("mixtures") / "lake"))
