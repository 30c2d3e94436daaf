"""Lineage: back to the source uri and forward to exports, for an episode, a mixture and a sample; and by plain SQL."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.query import Query
from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from pipelines.sources.base import SourceOptions
from pipelines.upkeep.lineage import Lineage, lineage
from schemas.errors import UnknownNameError, UsageError
from schemas.ids import episode_id
from tests.support.mixtures import toy_spec
from tests.support.toys import ToySource, ingest_toy


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    """Two datasets of two sources, one mixture of both, one export of it."""
    lake = Lake.at(tmp_path_factory.mktemp("lineage") / "lake")
    for name in ("toy_a", "toy_b"):
        ingest_toy(lake, ToySource(uri=f"toy://{name}", options=SourceOptions(name), lengths=(6, 5)))
    made = mix(lake, toy_spec("both", samples=40))
    row = {"uri": "/out/both", "format": "rlds", "mixture": "both", "mixture_hash": made.hash, "report": "{}", "verified": True}
    Catalog(lake).append("publications", pa.Table.from_pylist([row]), "u-export")
    return lake, made.hash


def rows(found: Lineage, title: str) -> list[dict]:
    return next(s for s in found.steps if s.title == title).rows.to_dicts()


def test_an_episode_back_to_its_source_and_forward_to_the_export(traced: tuple[Lake, str]) -> None:
    lake, digest = traced
    name = episode_id("toy_b", "1")
    found = lineage(lake, name)
    assert found.sources == ["toy://toy_b"]
    (recording,) = rows(found, "recording")
    assert (recording["key"], recording["dataset"]) == ("1", "toy_b")
    (ran,) = rows(found, "run")
    assert (ran["unit"], ran["stage"]) == (recording["unit"], "ingest")
    assert sorted(r["kind"] for r in rows(found, "shard")) == ["packets", "steps", "streams"]
    assert [(r["name"], r["hash"]) for r in rows(found, "mixtures")] == [("both", digest)]
    assert [r["uri"] for r in rows(found, "exports")] == ["/out/both"]


def test_a_mixture_back_to_every_source(traced: tuple[Lake, str]) -> None:
    lake, digest = traced
    for what in ("both", f"both@{digest[:6]}", f"mixture:both@{digest}"):
        found = lineage(lake, what)
        assert found.sources == ["toy://toy_a", "toy://toy_b"]
    assert {(r["dataset"], r["source_uri"], r["episodes"], r["steps"]) for r in rows(found, "sources")} == {
        ("toy_a", "toy://toy_a", 2, 11), ("toy_b", "toy://toy_b", 2, 11),
    }  # fmt: skip
    assert len(rows(found, "recordings")) == 4
    assert rows(found, "run")[0]["stage"] == "mix"
    assert rows(found, "exports")[0]["verified"] is True


def test_every_sample_names_the_episode_the_loader_draws(traced: tuple[Lake, str]) -> None:
    lake, _ = traced
    samples = load("both", lake)
    for number in range(0, 40, 13):
        found, drawn = lineage(lake, f"both:{number}"), samples[number]
        assert rows(found, "recording")[0]["episode_id"] == drawn["episode_id"]
        assert found.what.startswith(f"sample {number} of both@")
        assert f"step {int(drawn['frame_index'])} of" in found.what


def test_each_statement_runs_as_a_query(traced: tuple[Lake, str]) -> None:
    lake, _ = traced
    for what in (episode_id("toy_a", "0"), "both"):
        for step in lineage(lake, what).steps:
            assert Query(Catalog(lake)).sql(step.sql).equals(step.rows)


def test_history_shows_every_content_an_episode_had(traced: tuple[Lake, str], tmp_path) -> None:
    lake = Lake.at(tmp_path / "lake")
    source = ToySource(lengths=(6, 5))
    for version in (source, replace(source, lengths=(7, 5))):
        ingest_toy(lake, version)
    found = lineage(lake, episode_id("toy", "0"))
    assert len(rows(found, "versions")) == 2
    assert rows(found, "recording")[0]["content_hash"] == rows(found, "versions")[-1]["content_hash"]


@pytest.mark.parametrize("what", ["x'; SELECT 1", "ep-123", "both@zz", "both:x"])
def test_nothing_else_reaches_a_statement(traced: tuple[Lake, str], what: str) -> None:
    with pytest.raises(UsageError):
        lineage(traced[0], what)


def test_what_the_lake_does_not_know(traced: tuple[Lake, str]) -> None:
    with pytest.raises(UnknownNameError, match="cotrain ls episodes"):
        lineage(traced[0], f"ep-{'0' * 20}")
    with pytest.raises(UsageError, match="samples 0 to 39"):
        lineage(traced[0], "both:40")


def test_the_command(traced: tuple[Lake, str], capsys: pytest.CaptureFixture[str]) -> None:
    lake, _ = traced
    assert run(["lineage", "both", "--lake", lake.root, "--sql"]) == 0
    shown = capsys.readouterr().out
    assert "source: toy://toy_a, toy://toy_b" in shown
    assert "-- SELECT" in shown
    assert run(["lineage", "both:3", "--lake", lake.root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"][0].startswith("toy://")
