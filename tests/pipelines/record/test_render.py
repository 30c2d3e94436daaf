"""The choice of an OpenGL platform, without needing any."""

import os
import subprocess
import sys
from typing import Any

import pytest

from pipelines.record import render
from schemas.errors import DependencyError, UsageError


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Platforms that do not draw; a test adds to it."""
    names: set[str] = set()
    monkeypatch.setattr(render, "failure", lambda backend: f"no {backend} here" if backend in names else "")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    return names


def test_egl_comes_first(broken: set[str]) -> None:
    assert render.choose_backend() == "egl"


def test_osmesa_stands_in_for_egl(broken: set[str]) -> None:
    broken.add("egl")
    assert render.choose_backend() == "osmesa"


def test_the_environment_may_prefer_osmesa(broken: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert render.choose_backend() == "osmesa"
    broken.add("osmesa")
    assert render.choose_backend() == "egl"


def test_a_named_platform_has_no_stand_in(broken: set[str]) -> None:
    broken.add("osmesa")
    with pytest.raises(DependencyError, match="no osmesa here"):
        render.choose_backend("osmesa")


def test_without_any_the_message_is_the_line_to_run(broken: set[str]) -> None:
    broken |= {"egl", "osmesa"}
    with pytest.raises(DependencyError) as caught:
        render.choose_backend()
    assert "apt-get install -y libegl1 libgl1-mesa-dri libosmesa6" in str(caught.value)
    assert "no egl here" in str(caught.value)
    assert "no osmesa here" in str(caught.value)


def probe(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, library: str | None) -> dict[str, Any]:
    """Pretend the test picture ended with `code`; return the environment it was taken in."""
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options["env"])
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(render, "find_library", lambda name: library)
    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_what_draws_is_good_even_where_the_library_is_hard_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = probe(monkeypatch, 0, "", None)
    assert not render.failure.__wrapped__("osmesa")
    assert seen["MUJOCO_GL"] == "osmesa"


def test_an_absent_library_is_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, 1, "AttributeError: 'NoneType' object has no attribute 'OSMesaGetCurrentContext'", None)
    assert render.failure.__wrapped__("osmesa") == "libOSMesa is not installed"


def test_a_library_without_a_driver_fails_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, 1, "Traceback\nImportError: cannot initialise a device display\n", "libEGL.so.1")
    assert render.failure.__wrapped__("egl") == "ImportError: cannot initialise a device display"


def test_a_crash_without_words_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, -11, "", "libEGL.so.1")
    assert render.failure.__wrapped__("egl") == "exit code -11"


def test_activating_sets_the_platform_and_keeps_the_users_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setenv("LP_NUM_THREADS", "3")
    render.activate("osmesa")
    assert (os.environ["MUJOCO_GL"], os.environ["LP_NUM_THREADS"]) == ("osmesa", "3")


def test_a_platform_bound_earlier_is_refused(gl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco  # noqa: F401 (binds here, if no earlier test made it)

    other = "osmesa" if gl == "egl" else "egl"
    monkeypatch.setenv("MUJOCO_GL", other)
    with pytest.raises(UsageError, match=f"renders through {gl}, not {other}"):
        render.check_bound()


def test_importing_the_recorder_loads_no_simulator() -> None:
    code = "import sys, pipelines.record.record, pipelines.record.demo_sets; print([m for m in ('mujoco', 'gymnasium', 'torch', 'lerobot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
