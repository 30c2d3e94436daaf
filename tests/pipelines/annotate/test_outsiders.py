"""The annotator that the documentation shows, installed as another package would be and run by its name."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from catalog.lake import Lake
from catalog.query import Query, select_episodes
from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.shards.decode import decode_rgb
from pipelines.shards.reader import open_shard
from tests.support.toys import ingest_toy

PAGE = Path(__file__).resolve().parents[3] / "docs" / "annotators.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path, with the entry point that the page names."""
    (target,) = tomllib.loads(block("toml"))["project"]["entry-points"]["cotrain.annotators"].items()
    place = tmp_path / "site"
    module = place / Path(*target[1].partition(":")[0].split("."))
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").write_text("")
    module.with_suffix(".py").write_text(block("python"))
    info = place / "redness-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: redness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cotrain.annotators]\n{target[0]} = {target[1]}\n")
    monkeypatch.syspath_prepend(str(place))


@pytest.mark.usefixtures("installed")
def test_the_annotator_of_the_documentation_runs_by_its_name(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_toy(lake)
    call = ["annotate", "toy", "--with", "redness", "--lake", lake.root, "--workers", "0", "--json"]
    assert run([*call, "--dry-run"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["annotators"]
    assert plan["columns"] == ["red"]
    assert (plan["to_do"], plan["estimate"]["pictures"], plan["estimate"]["reads"]) == (2, 46, ["rgb:front"])
    assert run([*call, "--set", "redness.camera=wrist", "--evaluate"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["annotators"]
    assert told["quality"]["toy"][0]["gate"] == "not-measurable"
    assert told["effort"]["device"] == "cpu"
    rows = Query(Catalog(lake)).sql("SELECT episode_id, start_step, red, valid FROM redness")
    episode = select_episodes(Catalog(lake)).row(2, named=True)
    mine = rows.filter(rows["episode_id"].cast(str) == episode["episode_id"]).sort("start_step")
    pictures = decode_rgb(
        open_shard(lake, "toy", episode["shard"]).track(episode["episode_id"], "wrist"), np.arange(episode["steps"])
    )
    assert mine["red"].to_numpy() == pytest.approx(pictures[..., 0].mean((1, 2)) / 255, abs=1e-6)
    assert rows["valid"].all()
    assert Query(Catalog(lake)).sql("SELECT metric FROM quality")["metric"].to_list() == ["redness"]
    assert run([*call, "--set", "redness.camera=ceiling"]) == 0
    assert set(Query(Catalog(lake)).sql("SELECT reason FROM redness")["reason"].cast(str)) == {"no_such_camera"}
    assert run([*call, "--device", "tpu"]) == 2
    assert "use auto, cpu, cuda" in capsys.readouterr().err
    assert run([*call, "--set", "gaze.camera=wrist"]) == 2
    assert "which does not run" in capsys.readouterr().err


def test_the_example_is_as_short_as_it_is_said_to_be() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    body = lines[lines.index("@dataclass(frozen=True)") :]
    assert len(body) <= 30
