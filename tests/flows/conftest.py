"""One Prefect server for the session, in a home of its own: the developer's database is never touched."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Read when prefect is imported, which the test modules do.
HOME = tempfile.mkdtemp(prefix="cotrain-prefect-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["PREFECT_HOME"] = HOME
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
