"""The command line: exit codes, one JSON document on stdout, dry runs, and help that knows every command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.cli.app import run
from tests.support.toys import ToySource, ingest_toy
from tests.support.video import write_video

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    write_video(folder / "a.mp4", list(range(20)))
    write_video(folder / "b.mp4", list(range(30)))
    (folder / "narrations.csv").write_text("file,start_s,end_s,text\na.mp4,0,0.5,cut the onion\n")
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_ingest_query_and_list(clips: Path, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "ingest", str(clips), "--as", "kitchen", "--lake", lake.root, "--json")
    document = json.loads(out)
    assert (code, document["rows"], document["frames"], document["dataset"]) == (0, 50, 50, "kitchen")
    code, out, _ = call(
        capsys, "query", "SELECT source, count(*) AS n FROM episodes GROUP BY source", "--lake", lake.root, "--json"
    )
    assert (code, json.loads(out)["rows"]) == (0, [["human", 2]])
    code, out, _ = call(capsys, "ls", "episodes", "--lake", lake.root)
    assert code == 0
    assert "cut the onion" in out
    assert "2 episodes" in out


def test_ingesting_again_says_that_there_is_nothing_to_do(clips: Path, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("ingest", str(clips), "--lake", lake.root)
    call(capsys, *arguments)
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "nothing to do" in out


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(clips: Path, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "ingest", str(clips), "--lake", lake.root, "--dry-run", "--json")
    document = json.loads(out)
    assert (code, document["to_do"], document["episodes"]) == (0, 1, 2)
    assert "frame.main" in " ".join(document["columns"]) or any(c.startswith("frame.") for c in document["columns"])
    assert not Path(lake.root).exists()


def test_exit_code_3_when_something_is_in_quarantine(clips: Path, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "c.mp4").write_bytes(b"\0" * 1000)
    code, out, err = call(capsys, "ingest", str(clips), "--lake", lake.root, "--json")
    assert code == 3
    assert len(json.loads(out)["quarantine"]) == 1
    assert "c.mp4" in err
    code, out, _ = call(capsys, "ls", "quarantine", "--lake", lake.root)
    assert "CorruptMediaError" in out


def test_exit_code_4_when_nothing_is_usable(tmp_path: Path, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "c.mp4").write_bytes(b"\0" * 1000)
    code, _, _ = call(capsys, "ingest", str(tmp_path / "only"), "--lake", lake.root)
    assert code == 4
    code, _, err = call(capsys, "ingest", str(tmp_path / "nowhere"), "--lake", lake.root)
    assert code == 4
    assert "nowhere" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("query", "SELECT * FROM nonsense"), "episodes"),
        (("ls", "everything"), "datasets"),
        (("ingest", ".", "--check", "maybe"), "none, ends or all"),
        (("ingest", ".", "--kind", "lerobott"), "did you mean lerobot"),
        (("export", "nothing-there", "--to", "lerobot", "--out", "x"), "chooses no episode"),
        (("frobnicate",), "No such command"),
        (("ingest",), "Missing argument"),
    ],
)
def test_wrong_usage_is_2_and_one_sentence(
    arguments: tuple[str, ...], message: str, lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTRAIN_LAKE", lake.root)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_quarantine_listing_forgets_what_was_healed(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_toy(lake, ToySource(broken=(1,)))
    assert "broken on purpose" in call(capsys, "ls", "quarantine", "--lake", lake.root)[1]
    ingest_toy(lake)
    assert "0 quarantine" in call(capsys, "ls", "quarantine", "--lake", lake.root)[1]
    assert Catalog(lake).scan("quarantine").collect().height == 1


def test_doctor_reports_the_packages_this_environment_has(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor", "--lake", lake.root, "--json")
    found = {f["check"]: f for f in json.loads(out)["findings"]}
    assert code == 0
    assert found["pyarrow"]["ok"]
    assert found["fastapi for Prefect"]["ok"]
    assert found["one OpenCV"]["ok"]


def test_help_names_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("record", "ingest", "query", "annotate", "mix", "export", "verify", "ls", "doctor", "demo"):
        assert command in done.stdout
