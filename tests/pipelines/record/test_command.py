"""`cotrain record`: says what it would record, records it once, and takes one description of what varies."""

import json
from pathlib import Path

import pytest

from pipelines.cli.app import run
from pipelines.record.recording import existing_keys

pytest.importorskip("gym_pusht", reason="the extra [sim] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning", "ignore:pkg_resources:DeprecationWarning")
PUSHT = ("--simulator", "pusht", "--episodes", "1", "--size", "32", "--hz", "10", "--workers", "0", "--json")


def test_a_dry_run_names_the_episodes_that_a_run_then_records_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made"

    def called(*more: str) -> dict[str, object]:
        assert run(["record", str(out), *PUSHT, *more]) == 0
        return json.loads(capsys.readouterr().out)

    planned = called("--dry-run")
    assert (planned["there"], out.exists()) == ([], False)
    made = called()
    assert (made["episodes"], made["skipped"], made["simulator"]) == (1, 0, "pusht")
    assert existing_keys(out) == set(planned["to_do"])  # pyright: ignore[reportArgumentType]
    assert called("--dry-run")["to_do"] == []
    assert called()["skipped"] == 1


def test_what_varies_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["record", str(tmp_path / "made"), *PUSHT, "--vary", "colour=0.3", "--factors", str(tmp_path / "f.toml")]) == 2
    assert "give one of them" in capsys.readouterr().err
