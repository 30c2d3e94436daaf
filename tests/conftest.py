"""Fixtures every room uses: an empty lake, and the real recordings where they are present."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import settings

from catalog.lake import Lake

# No deadlines: machines that run tests are shared, and a slow example is no wrong one.
settings.register_profile("cotrain", deadline=None)
settings.load_profile("cotrain")
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


@dataclass(frozen=True)
class S3:
    """A bucket on a real S3 server on loopback, and the filesystem that reaches it."""

    fs: Any
    bucket: str


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server of its own per module; the environment names it, so that every library finds it."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
            "COTRAIN_CACHE": str(tmp_path_factory.mktemp("cache")),
        }.items():  # fmt: skip
            patch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket = f"cotrain-{uuid.uuid4().hex}"  # servers of one process share what they hold
        fs.mkdir(bucket)
        yield S3(fs, bucket)
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run `tests/flows` last: once Prefect has started its threads, forked DataLoader workers of this process exit with an error."""
    items.sort(key=lambda item: "flows" in Path(item.path).relative_to(ROOT).parts)
