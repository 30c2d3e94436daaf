"""A spec becomes a pinned mixture: shares as asked or explained, once per content, and never trusted blindly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.mixture.compile import compile_mixture
from pipelines.mixture.index import Index
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import MixStage, mix
from pipelines.mixture.shares import render_shares
from pipelines.sources.base import SourceOptions
from pipelines.unit import execute_batch, pending
from schemas.errors import InfeasibleMixtureError, LakeError, UnknownNameError, UsageError
from schemas.mixture import SourceSpec, SplitSpec
from tests.support.mixtures import ingest_two_toys, toy_spec
from tests.support.toys import ToySource, ingest_toy


def folder_of(lake: Lake, report) -> Path:
    return Path(lake.path(report.uri))


def test_realised_is_what_the_plan_draws(toys):
    report = mix(toys, toy_spec("realised"))
    mixture = open_mixture(toys, "realised")
    drawn = np.bincount(mixture.plan.draw(np.arange(1_000)).source, minlength=2)
    assert [s.draws for s in report.shares] == drawn.tolist() == [750, 250]
    assert [s.realised for s in report.shares] == [0.75, 0.25]
    assert [(s.asked, s.target, s.quota, s.period) for s in report.shares] == [
        (0.75, 0.75, 49_152, 65_536),
        (0.25, 0.25, 16_384, 65_536),
    ]
    assert [(s.episodes, s.steps) for s in report.shares] == [(4, 46), (6, 51)]
    assert [s.epochs for s in report.shares] == [750 / 46, 250 / 51]
    assert report.fresh
    assert mixture.shares == report.shares
    assert mixture.hash == report.hash
    assert sorted(mixture.episode_ids()) == sorted(Catalog(toys).latest("episodes").collect()["episode_id"])


def test_every_item_is_a_step_of_its_episode(toys):
    mixture = open_mixture(toys, "items", mix(toys, toy_spec("items")).hash)
    rows, steps = mixture.index.find("toy_b", "train", np.arange(51))
    lengths = [mixture.index.row(r).steps for r in dict.fromkeys(rows.tolist())]
    assert steps.tolist() == [k for n in lengths for k in range(n)]
    assert {mixture.index.row(r).dataset for r in set(rows.tolist())} == {"toy_b"}
    catalog = Catalog(toys).latest("episodes").collect()
    known = {r["episode_id"]: r for r in catalog.iter_rows(named=True)}
    for number in range(len(mixture.index)):
        row = mixture.index.row(number)
        found = known[row.episode_id]
        assert (row.shard, row.first_row, row.steps) == (found["shard"], found["first_row"], found["steps"])
    with pytest.raises(IndexError, match="has 51 train items, not 51"):
        mixture.index.find("toy_b", "train", np.array([51]))


def test_again_is_a_no_op(lake):
    ingest_two_toys(lake)
    first = mix(lake, toy_spec())
    stamps = {p: p.stat().st_mtime_ns for p in folder_of(lake, first).iterdir()}
    versions = {t: Catalog(lake).version(t) for t in ("mixtures", "runs")}
    again = mix(lake, toy_spec())
    assert (first.fresh, again.fresh) == (True, False)
    assert again.hash == first.hash
    assert again.shares == first.shares
    assert {p: p.stat().st_mtime_ns for p in folder_of(lake, first).iterdir()} == stamps
    assert {t: Catalog(lake).version(t) for t in ("mixtures", "runs")} == versions
    # data that no source selects moves the catalog's versions and changes nothing
    ingest_toy(lake, ToySource(options=SourceOptions("other"), lengths=(5,)))
    assert not mix(lake, toy_spec()).fresh
    # data that one selects does
    grown = ToySource(options=SourceOptions("toy_a"), lengths=(12, 9, 15, 10, 8, 8))
    ingest_toy(lake, grown)
    later = mix(lake, toy_spec())
    assert later.fresh
    assert later.hash != first.hash
    assert open_mixture(lake, "both").hash == later.hash  # by name: the newest
    assert open_mixture(lake, "both", first.hash[:6]).hash == first.hash
    assert Catalog(lake).latest("mixtures").collect().height == 2


def test_registers_one_row_that_pins_the_catalog(lake):
    ingest_two_toys(lake)
    before = Catalog(lake).version("episodes")
    report = mix(lake, toy_spec())
    row = Catalog(lake).latest("mixtures").collect().row(0, named=True)
    assert (row["name"], row["hash"], row["uri"], row["samples"], row["episodes"]) == ("both", report.hash, report.uri, 1_000, 10)
    assert json.loads(row["pins"])["episodes"] == before
    assert json.loads(row["spec"])["sources"][0]["name"] == "toy_a"
    assert [s["draws"] for s in json.loads(row["shares"])] == [750, 250]


def test_a_flow_runs_the_stage_by_itself(lake):
    ingest_two_toys(lake)
    stage = MixStage(lake, toy_spec())
    reports = execute_batch(stage, pending(stage), "run-x")
    assert [r.status for r in reports] == ["done"]
    assert pending(stage) == []
    assert not mix(lake, toy_spec()).fresh


def test_hash_depends_on_what_matters(toys):
    base = compile_mixture(toys, toy_spec())
    assert compile_mixture(toys, toy_spec()).hash == base.hash
    changed = [
        toy_spec("other"), toy_spec(seed=2), toy_spec(samples=999), toy_spec(split=SplitSpec(0.5)), toy_spec(statistics=False),
        toy_spec(sources=(SourceSpec("toy_b", weight=1), SourceSpec("toy_a", weight=3))),
    ]  # fmt: skip
    hashes = {compile_mixture(toys, spec).hash for spec in changed}
    assert len(hashes | {base.hash}) == len(changed) + 1


def test_caps_floors_and_temperature(toys):
    capped = mix(
        toys, toy_spec("capped", samples=200, sources=(SourceSpec("toy_a", weight=9, max_epochs=2), SourceSpec("toy_b")))
    )
    assert [s.draws for s in capped.shares] == [92, 108]  # 2 x 46 and the rest
    assert capped.shares[0].epochs == 2
    assert capped.shares[0].note == "held at its cap of 2 epochs"
    assert capped.shares[1].note == "takes up what capped sources leave"
    assert capped.shares[0].asked == 0.9
    floored = mix(toys, toy_spec("floored", sources=(SourceSpec("toy_a", weight=99), SourceSpec("toy_b", floor=0.4))))
    assert [s.draws for s in floored.shares] == [600, 400]
    assert floored.shares[1].note == "raised to its floor"
    sized = mix(toys, toy_spec("sized", temperature=1.0, samples=97, sources=(SourceSpec("toy_a"), SourceSpec("toy_b"))))
    assert [s.draws for s in sized.shares] == [46, 51]
    everything = toy_spec(
        "once", temperature=1.0, samples=97, sources=tuple(SourceSpec(n, max_epochs=1) for n in ("toy_a", "toy_b"))
    )
    assert [s.epochs for s in mix(toys, everything).shares] == [1.0, 1.0]


def test_a_cap_holds_to_the_draw(toys):
    """Rounding shares to the period must not push a small source over its cap in a long mixture."""
    sources = (SourceSpec("toy_a", max_epochs=7), SourceSpec("toy_b"))
    for samples in (1_000, 65_537, 1_000_003, 20_000_000):
        shares = compile_mixture(toys, toy_spec("long", samples=samples, sources=sources)).shares
        assert shares[0].draws <= 7 * 46
        assert shares[0].draws > 7 * 46 - samples / 65_536 - 1
    with pytest.raises(InfeasibleMixtureError, match="lower samples to 21102592"):
        compile_mixture(toys, toy_spec("long", samples=30_000_000, sources=sources))


def test_infeasible_and_empty_say_what_to_do(toys):
    both = tuple(SourceSpec(n, max_epochs=1) for n in ("toy_a", "toy_b"))
    with pytest.raises(InfeasibleMixtureError, match=r"at most 97 \(toy_a 46, toy_b 51\); lower samples to 97"):
        mix(toys, toy_spec(sources=both, samples=98))
    with pytest.raises(UsageError, match=r"source nothing: 'nothing' chooses no episode. Datasets .*toy_a \(4\)"):
        mix(toys, toy_spec(sources=(SourceSpec("nothing"),)))
    with pytest.raises(UsageError, match=r"all 4 episodes are held out \(split.val = 0.9999\)"):
        mix(toys, toy_spec(split=SplitSpec(0.9999)))


def test_overlapping_sources_are_pointed_out(toys):
    sources = (SourceSpec("toy_a"), SourceSpec("short", "steps < 10"))
    shares = compile_mixture(toys, toy_spec(sources=sources)).shares
    assert [s.shared for s in shares] == [1, 1]
    assert shares[0].note == "1 episodes are also in another source"


def test_split_keeps_groups_and_train_apart(toys):
    salt = next(s for s in "abcdefgh" if 0 < compile_mixture(toys, toy_spec(split=SplitSpec(0.3, s))).shares[0].val_episodes < 4)
    report = mix(toys, toy_spec("split", split=SplitSpec(0.3, salt)))
    mixture = open_mixture(toys, "split")
    train, val = set(mixture.episode_ids("train")), set(mixture.episode_ids("val"))
    assert train
    assert val
    assert not train & val
    assert len(train | val) == 10
    assert sum(s.val_episodes for s in report.shares) == len(val)
    assert len(mixture.order("val")) == sum(s.val_steps for s in report.shares)
    assert sum(s.steps for s in report.shares) + len(mixture.order("val")) == 97


def test_table_for_people(toys):
    text = render_shares(
        compile_mixture(toys, toy_spec(sources=(SourceSpec("toy_a", weight=3, max_epochs=16), SourceSpec("toy_b")))).shares
    )
    head, first, _, total = text.splitlines()
    assert " ".join(head.split()) == "source asked target realised draws episodes steps epochs cap held out note"
    assert first.startswith("toy_a")
    assert "75.00%" in first
    assert "held at its cap of 16 epochs" in first
    assert total.split()[:5] == ["total", "100.00%", "100.00%", "100.00%", "1,000"]
    assert len({line.index("%") for line in (first, total)}) == 1


def test_damage_is_refused_and_mixing_again_repairs(lake):
    ingest_two_toys(lake)
    report = mix(lake, toy_spec())
    folder = folder_of(lake, report)

    def damage(name, change):
        path = folder / name
        good = path.read_bytes()
        path.unlink()
        path.write_bytes(change(good))

    damage("manifest.json", lambda b: b.replace(b'"samples": 1000', b'"samples": 1001'))
    with pytest.raises(LakeError, match="does not match its seal"):
        open_mixture(lake, "both")
    assert not mix(lake, toy_spec()).fresh
    damage("index.arrow", lambda b: b[:-20])
    with pytest.raises(LakeError, match="not a complete Arrow file"):
        open_mixture(lake, "both")
    mix(lake, toy_spec())
    damage(
        "stats.json",
        lambda b: (
            b.replace(b'"count":46', b'"count":47', 1) if b'"count":46' in b else b.replace(b'"count":97', b'"count":98', 1)
        ),
    )
    with pytest.raises(LakeError, match="does not match its own hash"):
        _ = open_mixture(lake, "both").statistics
    mix(lake, toy_spec())
    (folder / "manifest.json").unlink()
    with pytest.raises(LakeError, match="is missing although the catalog names it"):
        open_mixture(lake, "both")
    mix(lake, toy_spec())
    assert open_mixture(lake, "both").hash == report.hash


def test_a_manifest_moved_under_another_hash_is_refused(lake):
    ingest_two_toys(lake)
    first, second = mix(lake, toy_spec()), mix(lake, toy_spec(seed=2))
    target = folder_of(lake, second) / "manifest.json"
    target.unlink()
    target.write_bytes((folder_of(lake, first) / "manifest.json").read_bytes())
    with pytest.raises(LakeError, match=f"is the manifest of both@{first.hash}"):
        open_mixture(lake, "both", second.hash)


def test_a_resealed_forgery_is_refused(lake):
    """Whoever rewrites the plan and the seal still cannot keep the hash."""
    from schemas.ids import digest

    ingest_two_toys(lake)
    path = folder_of(lake, mix(lake, toy_spec())) / "manifest.json"
    body = json.loads(path.read_bytes())
    body.pop("seal")
    body["plan"]["phases"][0]["quotas"] = [32_768, 32_768]
    path.unlink()
    path.write_text(json.dumps(body | {"seal": digest(body)}))
    with pytest.raises(LakeError, match="but its content has"):
        open_mixture(lake, "both")


def test_unknown_names(toys):
    mix(toys, toy_spec("nearby"))
    with pytest.raises(UnknownNameError, match="did you mean nearby"):
        open_mixture(toys, "nearbi")
    with pytest.raises(UnknownNameError, match="names 0 versions"):
        open_mixture(toys, "nearby", "zz")


def test_selection_accepts_any_condition(toys):
    ids = Catalog(toys).latest("episodes").filter(pl.col("steps") >= 10).collect()
    compiled = compile_mixture(
        toys, replace(toy_spec(), sources=(SourceSpec("long", "SELECT episode_id FROM episodes WHERE steps >= 10"),))
    )
    assert sorted(compiled.index.frame()["episode_id"]) == sorted(ids["episode_id"])
    assert sorted(compiled.contracts) == ["toy_a", "toy_b"]


def test_the_digest_of_an_index_is_that_of_its_rows(toys):
    index = compile_mixture(toys, toy_spec()).index
    table = index.table
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    plain = table.set_column(0, "source", table.column("source").cast(pa.string()))
    assert index.digest() == Index(pieces).digest() == Index(plain).digest() == Index(table.slice(0)).digest()
    assert Index(table.slice(1)).digest() != index.digest()
    assert Index(table.slice(2, 5)).digest() == Index(table.take(list(range(2, 7)))).digest()
    assert Index(table.schema.empty_table()).digest()
