import json
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.cli.app import run as command
from pipelines.curate.duplicates import DuplicateStage
from pipelines.curate.sketches import SketchStage
from pipelines.curate.splits import Assigned, SplitStage, assign, split_assignments, stored
from pipelines.mixture.compile import compile_mixture
from pipelines.unit import run_stage
from schemas.errors import CoverageError, LeakageError, UnknownNameError, UsageError
from schemas.mixture import MixtureSpec, SourceSpec
from schemas.split import FactorSpec, SharesSpec, SplitSetSpec, load_split
from tests.support.curated import HERE, Take, ingest_takes


def takes(count: int, scenes: int, first: int = 0) -> list[Take]:
    colours = ("red", "blue", "green")
    return [
        Take(i % 4, "pour" if i % 2 else "stack", scene=f"s{first + i % scenes}", colour=colours[i % 3], size=i / count)
        for i in range(count)
    ]


def keys_by_split(lake: Lake, assigned: Assigned) -> dict[str, set[str]]:
    scene = dict(Catalog(lake).latest("episodes").select("episode_id", "split_group").collect().iter_rows())
    found = defaultdict(set)
    for episode, split in assigned.rows.select("episode_id", "split").iter_rows():
        found[split].add(scene[episode])
    return found


def test_no_key_is_on_two_sides_and_shares_are_near(lake: Lake) -> None:
    ingest_takes(lake, takes(40, 20))
    assigned = assign(lake, SplitSetSpec("s", shares=SharesSpec(0.2, 0.1)))
    sides = keys_by_split(lake, assigned)
    assert not sides["train"] & sides["val"] | sides["train"] & sides["test"] | sides["val"] & sides["test"]
    assert assigned.shares == {"test": 0.1, "train": 0.7, "val": 0.2}
    assert (assigned.components, assigned.giant, assigned.breaks) == (20, 0.05, 0)


def test_a_giant_component_fails_and_names_its_keys(lake: Lake) -> None:
    ingest_takes(lake, takes(20, 10))
    with pytest.raises(LeakageError, match=r"one component holds 100% of 20 episodes.*embodiment=toy_arm"):
        assign(lake, SplitSetSpec("s", by=("split_group", "embodiment")))
    whole = assign(lake, SplitSetSpec("s", by=("split_group", "embodiment"), giant=1.0))
    assert whole.shares == {"train": 1.0}  # larger than a share: to train
    lesser = SplitSetSpec("s", by=("embodiment",), by_dataset={"takes": ("split_group",)})
    assert assign(lake, lesser).components == 10


def test_what_was_assigned_stays_and_a_merge_is_written_down(lake: Lake) -> None:
    ingest_takes(lake, takes(30, 15))
    spec = SplitSetSpec("s", by=("split_group", "factors.size.amount"), shares=SharesSpec(0.2, 0.2))
    assert run_stage(SplitStage(lake, spec), execution=HERE).worked == 1
    assert run_stage(SplitStage(lake, spec), execution=HERE).worked == 0
    before = dict(split_assignments(lake, "s").select("episode_id", "split").iter_rows())
    ingest_takes(lake, takes(30, 15, 100), "more")
    run_stage(SplitStage(lake, spec), execution=HERE)
    after = dict(split_assignments(lake, "s").select("episode_id", "split").iter_rows())
    assert {e: after[e] for e in before} == before
    assert abs(sum(s == "test" for s in after.values()) / 60 - 0.2) < 0.04
    # a new take of one test scene and one val scene, by the same size: two components become one
    row = Catalog(lake).latest("episodes").filter(pl.col("dataset") == "takes").collect()
    test, val = (next(r for r in row.iter_rows(named=True) if after[r["episode_id"]] == s) for s in ("test", "val"))
    size = json.loads(val["attributes"])["factors"]["size"]["amount"]
    ingest_takes(lake, [*takes(30, 15), Take(3, scene=test["split_group"], colour="red", size=size)])
    merged = assign(lake, spec)
    assert merged.breaks >= 2
    told = dict(merged.rows.select("episode_id", "split").iter_rows())
    assert told[test["episode_id"]] == told[val["episode_id"]] == "train"
    note = dict(merged.rows.select("episode_id", "note").iter_rows())
    assert note[test["episode_id"]] == "split break: components in test, val are one now"


def test_copies_are_dropped_rather_than_chained(lake: Lake) -> None:
    ingest_takes(lake, [Take(i % 6, scene=f"s{i}") for i in range(12)])  # every motion twice, in two scenes
    for stage in (SketchStage(lake, kinds=("trajectory",)), DuplicateStage(lake, kinds=("trajectory",))):
        run_stage(stage, execution=HERE)
    assigned = assign(lake, SplitSetSpec("s", duplicates=("trajectory",), shares=SharesSpec(0.2, 0.2)))
    dropped = assigned.rows.filter(pl.col("split") == "dropped")
    assert dropped.height == 6
    assert dropped["note"].str.starts_with("near-duplicate of ep-").all()
    assert assigned.components == 6
    run_stage(SplitStage(lake, SplitSetSpec("s", duplicates=("trajectory",))), execution=HERE)
    assert split_assignments(lake, "s").height == 6
    assert stored(lake, "s").height == 12


def factors(*specs: FactorSpec, **changes) -> SplitSetSpec:
    return SplitSetSpec("f", factors=specs, shares=SharesSpec(0.0, 0.2), **changes)


def test_each_factor_has_its_own_test_and_train_never_sees_it(lake: Lake) -> None:
    ingest_takes(lake, takes(60, 60))
    colour = FactorSpec("factors.colour.category", hold=("red",), name="colour")
    size = FactorSpec("factors.size.amount", "range", quantile=0.8, name="size")
    spec = factors(colour, size)
    rows = assign(lake, spec).rows
    facts = {
        e: json.loads(a)["factors"]
        for e, a in Catalog(lake).latest("episodes").select("episode_id", "attributes").collect().iter_rows()
    }
    for episode, split in rows.select("episode_id", "split").iter_rows():
        red, large = facts[episode]["colour"]["category"] == "red", facts[episode]["size"]["amount"] > 0.8 * 59 / 60
        wanted = {(True, True): "ood_test.several", (True, False): "ood_test.colour", (False, True): "ood_test.size"}.get(
            (red, large)
        )
        assert split == wanted if wanted else split in ("train", "id_test")
    counts = dict(rows.group_by("split").len().iter_rows())
    assert counts["id_test"] == round(0.2 * (counts["id_test"] + counts["train"]))  # a share of what no factor holds out
    assert rows.filter(pl.col("split") == "ood_test.colour")["note"][0] == "factors.colour.category = 'red'"


def test_a_composition_holds_out_pairs_whose_parts_are_known(lake: Lake) -> None:
    ingest_takes(lake, takes(60, 60))
    pair = FactorSpec("factors.colour.category", "composition", hold=(("red", "pour"),), second="task")
    assigned = assign(lake, factors(pair))
    assert "ood_test.category+task" in set(assigned.rows["split"])
    all_reds = FactorSpec("factors.colour.category", "composition", hold=(("red", "pour"), ("red", "stack")), second="task")
    with pytest.raises(CoverageError, match="training never sees 'red'"):
        assign(lake, factors(all_reds))


def test_what_shares_a_scene_with_a_held_out_value_is_not_trained_on(lake: Lake) -> None:
    ingest_takes(lake, takes(60, 20))  # scenes repeat after 20, colours after 3
    spec = factors(FactorSpec("factors.size.amount", "range", above=0.9, name="size"))
    assigned = assign(lake, spec)
    sides = keys_by_split(lake, assigned)
    assert sides["dropped"] == sides["ood_test.size"]
    assert not sides["train"] & sides["ood_test.size"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (SplitSetSpec("s", by=("operator",)), UsageError, "no chosen episode has 'operator'"),
        (factors(FactorSpec("factors.shape", hold=("T",))), UsageError, "no chosen episode has it"),
        (factors(FactorSpec("task", "range", above=1)), UsageError, "a range needs numbers"),
        (factors(FactorSpec("task", hold=("sweep",))), CoverageError, "nothing is held out"),
        (factors(FactorSpec("task", hold=("pour", "stack"))), CoverageError, "hold out every episode"),
    ],
)
def test_what_cannot_be_split_is_told(lake: Lake, spec: SplitSetSpec, error: type, message: str) -> None:
    ingest_takes(lake, takes(8, 8))
    with pytest.raises(error, match=message):
        assign(lake, spec)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("by = ['task']\n", "name is missing"),
        ("name = 's'\n[shares]\nval = 0.6\ntest = 0.5\n", "train would be empty"),
        ("name = 's'\n[[factors]]\nprotocol = 'values'\n", r"factors\[0\].factor is missing"),
        ("name = 's'\n[[factors]]\nfactor = 'a'\nprotocol = 'range'\n", "needs one of above and quantile"),
        ("name = 's'\n[[factors]]\nfactor = 'a'\nprotocol = 'odd'\n", "protocol 'odd' is unknown"),
        ("name = 's'\n[[factors]]\nfactor = 'a'\nprotocol = 'composition'\nhold = ['b']\nsecond = 'c'\n", "hold lists pairs"),
        ("name = 's'\nduplicates = ['near']\n", "there are exact, visual, trajectory"),
    ],
)
def test_a_split_spec_that_makes_no_sense_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_split(text)


def test_the_command_splits_and_an_unknown_split_is_told(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest_takes(lake, takes(20, 10))
    spec = tmp_path / "split.toml"
    spec.write_text("name = 'scenes'\n[shares]\nval = 0.1\ntest = 0.2\n")
    assert command(["curate", "split", str(spec), "--lake", lake.root, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["shares"]["test"], document["components"], document["fresh"]) == (0.2, 10, True)
    assert command(["curate", "split", str(spec), "--lake", lake.root]) == 0
    assert "already stored" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match="there are scenes"):
        split_assignments(lake, "scene")


def test_a_mixture_takes_its_sides_from_a_stored_split(lake: Lake) -> None:
    ingest_takes(lake, takes(20, 10))
    run_stage(SplitStage(lake, SplitSetSpec("scenes", shares=SharesSpec(0.0, 0.2))), execution=HERE)
    side = "SELECT episode_id FROM splits WHERE name = 'scenes' AND split = '{}'"
    train, test = (
        compile_mixture(lake, MixtureSpec(s, 50, (SourceSpec(s, side.format(s)),), statistics=False)).index.frame()
        for s in ("train", "test")
    )
    assert (train.height, test.height) == (16, 4)
    scene = Catalog(lake).latest("episodes").select("episode_id", "split_group").collect()
    first, second = (set(t.join(scene, on="episode_id")["split_group"]) for t in (train, test))
    assert not first & second
