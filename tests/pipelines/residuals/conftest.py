"""One lake of two toy datasets with a mixture of both, for tests that add caches of their own teachers."""

import pytest
import torch

from catalog.lake import Lake
from tests.support.mixtures import ingest_two_toys
from tests.support.residuals import mix_toys

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_mixture(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return mix_toys(ingest_two_toys(Lake.at(tmp_path_factory.mktemp("residuals") / "lake")))
