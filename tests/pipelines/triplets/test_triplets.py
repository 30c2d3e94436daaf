"""From a lake to an image-pair dataset: counterfactual takes, what readers load, what a person is shown, doing it again."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from annotators.triplets.triplets import Triplets
from catalog.tables import Catalog
from pipelines.annotations import read_annotations
from pipelines.cli.app import run
from pipelines.selection import choose
from pipelines.triplets.audit import audit_page, drawn
from pipelines.triplets.contrast import contrasts
from pipelines.triplets.counterfactuals import NAME, judge_counterfactuals
from pipelines.triplets.takes import find_takes
from tests.pipelines.triplets.conftest import Written
from tests.support.table_film import path, state_at
from tests.support.tabletop import draw


def rows_of(folder: Path, config: str = "triplets") -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data" / config).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def picture(row: dict[str, Any], end: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row[end]["bytes"])).convert("RGB"), np.int16)


def test_counterfactual_takes_are_judged_by_what_changed(written: Written) -> None:
    episodes = choose(written.lake, "table").episodes
    takes = find_takes(episodes)
    assert sorted((t.factor, t.single, t.rerendered) for t in takes) == [
        ("camera", False, True),
        ("colour", True, True),
        ("distractors", False, True),
    ]
    said = read_annotations(Catalog(written.lake), NAME, episodes, Triplets().fingerprint())
    verdicts = {
        f: set(said.filter(pl.col("factor") == f, ~pl.col("label").str.starts_with("neg_").fill_null(value=False))["reason"])
        for f in ("camera", "colour", "distractors")
    }
    assert verdicts == {"camera": {"camera_moved"}, "colour": {None}, "distractors": {"several_changes"}}
    precision, recall = judge_counterfactuals(said, takes)
    assert (precision.value, precision.gate, recall.value) == (1.0, "pass", 1.0)
    swapped = said.with_columns(
        label=pl.when(pl.col("label") == "positive")
        .then(None)
        .when(pl.col("label").is_null())
        .then(pl.lit("positive"))
        .otherwise("label")
    )
    assert judge_counterfactuals(swapped, takes)[0].gate == "fail"


def test_datasets_loads_every_configuration(written: Written, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    assert set(get_dataset_config_names(str(written.folder))) == {"triplets", "arm_only", "goals", "contrast"} & set(
        written.info["files"]
    )
    pairs = load_dataset(str(written.folder), "triplets", split="train", cache_dir=str(tmp_path))
    assert pairs.num_rows == written.info["files"]["triplets"]["train"]["rows"]
    first = pairs[0]
    assert first["source"].size == first["target"].size == (256, 256)
    assert first["prompt"]


def test_pictures_are_those_that_were_filmed(written: Written) -> None:
    seeds = {
        r["episode_id"]: int(r["key"])
        for r in choose(written.lake, "table").episodes.iter_rows(named=True)
        if "~" not in r["key"]
    }
    rows = [r for r in rows_of(written.folder) if r["label"] == "positive" and r["candidate"] == "clip"]
    assert rows
    for row in rows:
        if (seed := seeds.get(row["source_ref"]["episode"])) is None:
            continue
        for end in ("source", "target"):
            hand, thing = path(seed, np.array([row[f"{end}_ref"]["t_ns"] / 1e9]))
            filmed = draw(state_at(seed, hand[:, 0], thing[:, 0]))
            assert np.abs(picture(row, end) - filmed).mean() < 6
        assert np.abs(picture(row, "source") - picture(row, "target")).max() > 60
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        assert 0 < (mask > 0).mean() < 0.35


def test_negatives_are_what_they_say(written: Written) -> None:
    rows = rows_of(written.folder)
    by = {r["id"]: r for r in rows}
    kinds = {r["label"] for r in rows}
    assert {"positive", "neg_reverse", "neg_no_change", "neg_camera"} <= kinds
    for row in rows:
        if row["label"] == "positive":
            assert row["of"] is None
            continue
        whole = by[row["of"]]
        assert whole["label"] == "positive"
        if row["label"] == "neg_reverse":
            assert (row["source"]["bytes"], row["target"]["bytes"]) == (whole["target"]["bytes"], whole["source"]["bytes"])
        elif row["label"] == "neg_no_change":
            assert row["source"]["bytes"] == row["target"]["bytes"] == whole["source"]["bytes"]
        elif row["label"] == "neg_camera":
            assert row["target"]["bytes"] == whole["target"]["bytes"]
            assert np.abs(picture(row, "source") - picture(whole, "source")).mean() > 1


def test_the_card_tells_configurations_and_refusals(written: Written) -> None:
    text = (written.folder / "README.md").read_text()
    for config, files in written.info["files"].items():
        assert f"config_name: {config}" in text
        for file in files.values():
            assert (written.folder / file["path"]).stat().st_size == file["bytes"]
    assert written.info["refused"]
    assert sum(r["candidates"] for r in written.info["refused"] if r["reason"] == "camera_moved") >= 3
    assert "| camera | camera_moved |" in text


def test_a_person_is_shown_random_pairs(written: Written) -> None:
    page = (written.folder / "audit.html").read_text()
    positives = [r for r in rows_of(written.folder) if r["label"] == "positive"]
    assert page.count('<li class="pair"') == min(7, len(positives))
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert [r["id"] for r in drawn(positives, 3)] == [r["id"] for r in drawn(positives[::-1], 3)]
    odd = {**positives[0], "prompt": "<script>alert(1)</script>"}
    assert "<script>alert" not in audit_page("x", [odd], 1)


def test_again_there_is_nothing_to_do(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["triplets", "table", "--out", str(written.folder.parent), "--split", "hash", "--val-share", "0", "--audit", "7"]
    before = (written.folder / "dataset.json").stat().st_mtime_ns
    assert run([*arguments, "--lake", written.lake.root, "--workers", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [s["done"] for s in told["stages"]] == [0, 0, 0] or all(
        s.get("units", 0) == 0 or s.get("done", 0) == 0 for s in told["stages"]
    )
    assert (written.folder / "dataset.json").stat().st_mtime_ns == before


def test_dry_run_writes_nothing(written: Written, tmp_path: Path) -> None:
    assert run(["triplets", "table", "--out", str(tmp_path / "none"), "--lake", written.lake.root, "--dry-run"]) == 0
    assert not (tmp_path / "none").exists()


def test_wrong_words_are_refused(written: Written, tmp_path: Path) -> None:
    assert run(["triplets", "table", "--out", str(tmp_path), "--split", "odd", "--lake", written.lake.root]) == 2
    assert run(["triplets", "table", "--out", str(tmp_path), "--set", "camera=1", "--lake", written.lake.root]) == 2


def test_contrasts_join_actions_and_contexts() -> None:
    rows = pl.DataFrame({
        "id": ["a", "b", "c", "d"], "prompt": ["push", "push", "open", "lift"], "edit_kind": ["location"] * 4,
        "context": ["s1", "s2", "s1", "s9"], "split": ["train"] * 4,
    })  # fmt: skip
    found = {t.anchor: t for t in contrasts(rows)}
    assert (found["a"].same_action, found["a"].same_context) == ("b", "c")
    assert (found["b"].same_action, found["b"].same_context) == ("a", None)
    assert (found["c"].same_action, found["c"].same_context) == (None, "a")
    assert "d" not in found


def test_takes_that_start_alike_differ_in_one_factor() -> None:
    def row(key: str, **factors: Any) -> dict[str, Any]:
        said = {"simulator": "pusht", "task": "push-t", "scene": 3, "factors": factors}
        return {"dataset": key, "key": "push-t-3", "episode_id": f"ep-{key}", "attributes": json.dumps(said)}

    pose = {"dx_px": 40.0, "dy_px": -3.0}
    takes = find_takes(
        pl.DataFrame(
            [
                row("a"),
                row("b", pose=pose),
                row("c", pose=pose, colour={"category": "red"}),
                row("d", lighting={"category": "far"}),
            ]
        )
    )
    assert {(t.source["dataset"], t.target["dataset"], t.factor, t.prompt) for t in takes} == {
        ("a", "b", "pose", "move the object to the right"), ("b", "c", "colour", "make the object red"),
    }  # fmt: skip
