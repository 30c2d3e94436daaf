"""`cotrain cache`, `cotrain cache audit` and `cotrain cache ls` as a user calls them."""

import json
from typing import Any

import pytest

from catalog.lake import Lake
from pipelines import api
from pipelines.cli.app import run
from pipelines.residuals.assign import assignments, open_teacher
from pipelines.residuals.store import open_cache
from schemas.errors import UnknownNameError, UsageError
from tests.support.mixtures import ingest_two_toys
from tests.support.residuals import mix_toys

MADE = "python:tests.support.residuals:made"


@pytest.fixture(scope="module")
def toys_here(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return mix_toys(ingest_two_toys(Lake.at(tmp_path_factory.mktemp("cli") / "lake")))


def call(lake: Lake, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = run(["cache", *arguments, "--lake", lake.root, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else err


def test_a_mixture_is_cached_audited_and_listed(toys_here: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    code, dry = call(toys_here, "toys", "--teacher", MADE, "--draws", "2", "--dry-run", capsys=capsys)
    assert (code, dry["caches"][0]["to_do"]) == (0, 4)
    code, first = call(toys_here, "toys", "--teacher", MADE, "--draws", "2", "--set", "batch=7", capsys=capsys)
    assert (code, first["caches"][0]["rows"]) == (0, 97 * 2)
    code, again = call(toys_here, "toys", "--teacher", MADE, "--draws", "2", "--set", "batch=7", capsys=capsys)
    assert (code, again["caches"][0]["skipped"], again["caches"][0]["differs_in"]) == (0, 4, [])
    code, found = call(
        toys_here, "audit", "toys", "--teacher", MADE, "--draws", "2", "--set", "batch=7", "--share", "0.3", capsys=capsys
    )
    assert (code, found["audits"][0]["verdict"], found["audits"][0]["identical"]) == (0, "ok", 1.0)
    code, other = call(toys_here, "toys", "--teacher", MADE, "--draws", "2", "--seed", "3", "--dry-run", capsys=capsys)
    assert other["caches"][0]["differs_in"] == ["config.batch", "config.seed"]
    code, listed = call(toys_here, "ls", capsys=capsys)
    row = dict(zip(listed["columns"], listed["rows"][0], strict=True))
    assert (row["teacher"], row["episodes"], row["rows"], row["staleness"]) == ("made", 10, 97 * 2, 0.0)


def test_a_notebook_says_the_same_words(toys_here: Lake) -> None:
    reports = api.cache("toys", [MADE], toys_here, config={"draws": 3}, sources=["toy_b"])
    assert [r.total("rows") for r in reports] == [51 * 3]
    assert api.cache("toys", [MADE], toys_here, config={"draws": 3}, sources=["toy_b"])[0].worked == 0


def test_each_source_has_its_own_teacher(toys_here: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    other = "python:tests.support.residuals:made_other"
    code, both = call(
        toys_here, "toys", "--teacher", f"toy_a={other}", "--teacher", f"toy_b={MADE}", "--draws", "1", capsys=capsys
    )
    assert (code, [c["rows"] for c in both["caches"]]) == (0, [46, 51])
    assert {e.dataset for _, e in open_cache(toys_here, "made-other").segments} == {"toy_a"}


def test_what_cannot_be_understood_is_said(toys_here: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in [
        (("toys",), "which --teacher"), (("toys", "--teacher", "fastwam"), "names no teacher"),
        (("toys", "--teacher", "python:nowhere:x"), "cannot be imported"), (("toys", "--teacher", "fastwam:/nowhere"), "no config.json"),
        (("toys", "--teacher", MADE, "--set", "drawz=3"), "did you mean draws"), (("toys", "--teacher", MADE, "--source", "toy_c"), "no source toy_c"),
        (("toyz", "--teacher", MADE), "did you mean toys"), (("toys", "--teacher", MADE, "--mode", "frozen"), "must be one of"),
    ]:  # fmt: skip
        code, said = call(toys_here, *arguments, capsys=capsys)
        assert (code, message in said) == (2, True), said


def test_assignments_leave_no_sample_with_two_teachers() -> None:
    assert assignments(["fastwam:x"], ["a", "b"]) == {"fastwam:x": ()}
    assert assignments(["a=t:x", "b=t:x"], ["a", "b"]) == {"t:x": ("a", "b")}
    for teachers, message in [
        (["t:x", "u:y"], "say for each"),
        (["a=t:x", "a=u:y"], "has two teachers"),
        (["c=t:x"], "no source 'c'"),
    ]:
        with pytest.raises(UsageError, match=message):
            assignments(teachers, ["a", "b"])
    with pytest.raises(UnknownNameError, match="did you mean smolvla"):
        open_teacher("smolvlm:/nowhere")
    with pytest.raises(UsageError, match="not a teacher"):
        open_teacher("python:builtins:dict")
