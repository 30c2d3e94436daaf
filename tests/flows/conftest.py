"""One Prefect server for the session, in a home of its own: the developer's database is never touched."""

import os
import tempfile
from collections.abc import Iterator

import pytest

# Read when prefect is imported, which the test modules do.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="cotrain-prefect-")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
