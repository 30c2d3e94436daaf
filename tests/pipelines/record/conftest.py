"""What the recorder's tests share: the toy simulator, and OpenGL where there is any."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.record import record as recorder
from pipelines.record.render import activate, choose_backend
from schemas.errors import DependencyError
from tests.support.toy_simulator import TARGET


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recorder.SIMULATORS.known, "toy", TARGET)


@pytest.fixture(scope="session")
def gl() -> Iterator[str]:
    """The OpenGL platform MuJoCo renders through here."""
    for package in ("mujoco", "metaworld"):
        if find_spec(package) is None:  # importing would bind MuJoCo to a platform
            pytest.skip(f"{package} is not installed (extra [sim])")
    try:
        backend = choose_backend()
    except DependencyError as error:
        pytest.skip(str(error))
    before = {name: os.environ.get(name) for name in ("MUJOCO_GL", "LP_NUM_THREADS")}
    activate(backend)
    yield backend
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "recording"
