"""Weights of the catalog's scores become whole copies: the sampler sees a longer list, and too little left is refused with figures."""

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.exporters.rlds.mix import dataset_shares
from pipelines.loader.load import load
from pipelines.mixture.compile import compile_mixture
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from schemas.errors import InfeasibleMixtureError, UsageError
from schemas.mixture import LocalitySpec, ResamplingSpec, SourceSpec, WeightSpec, load_spec
from tests.support.mixtures import toy_spec
from transforms.resampling import UNIT

SECOND, FPS = 1_000_000_000, 20
LOOSE = ResamplingSpec(0, 0, loss_weight=True)


def write_scores(lake, method, rows, fingerprint="f1"):
    table = pl.DataFrame(
        {"method": method, "fingerprint": fingerprint, "episode_id": [r[0] for r in rows], "start_ns": [r[1] for r in rows],
         "end_ns": [r[2] for r in rows], "value": [r[3] for r in rows]},
        schema_overrides={"end_ns": pl.Int64, "value": pl.Float64},
    )  # fmt: skip
    Catalog(lake).append(
        "scores", table.to_arrow().cast(pa.schema([(n, t) for n, t in _types(table)])), f"u-{method}-{fingerprint}"
    )


def _types(table):
    kinds = {pl.String: pa.string(), pl.Int64: pa.int64(), pl.Float64: pa.float64()}
    return [(name, kinds[type(dtype)]) for name, dtype in table.schema.items()]


@pytest.fixture(scope="module")
def scored(toys) -> Lake:
    """Both toys, with `ratio` and `partly` on whole episodes of toy_a and `phase` on spans of its first one."""
    lake = toys
    episodes = Catalog(lake).latest("episodes").filter(pl.col("dataset") == "toy_a").sort("shard", "first_row").collect()
    ids, ends = episodes["episode_id"].to_list(), (episodes["steps"] * SECOND // FPS).to_list()
    write_scores(lake, "ratio", [(e, 0, end, v) for e, end, v in zip(ids, ends, (-5, 0, 0.5, 1), strict=True)])
    write_scores(lake, "partly", [(ids[0], 0, None, 1.0)])
    steps = int(episodes["steps"][0])
    spans = [(ids[0], 0, 4 * SECOND // FPS, 3.0), (ids[0], 4 * SECOND // FPS, steps * SECOND // FPS, 1.0)]
    write_scores(lake, "phase", [*spans, *((e, 0, None, 1.0) for e in ids[1:])])
    return lake


def only_a(name, *terms, **changes):
    body = {"sources": (SourceSpec("toy_a"),), "weights": terms, "resampling": LOOSE, "samples": 920, "statistics": False}
    return toy_spec(name, **(body | changes))


def expected(lake, values):
    """Weights per episode of toy_a: mean 1 over its steps."""
    rows = Catalog(lake).latest("episodes").filter(pl.col("dataset") == "toy_a").sort("shard", "first_row").collect()
    steps, raw = rows["steps"].to_numpy(), np.asarray(values, float)
    return dict(zip(rows["episode_id"], raw / np.average(raw, weights=steps), strict=True))


def test_an_epoch_holds_each_step_as_often_as_its_weight_says(scored):
    spec = only_a("ratio", WeightSpec(score="ratio", low=-1, high=0.8))
    report = mix(scored, spec)
    mixture, wanted = open_mixture(scored, "ratio", report.hash), expected(scored, np.exp([-1, 0, 0.5, 0.8]))
    items = mixture.index.items("toy_a", "train")
    assert mixture.plan.sources[0].items == items == report.shares[0].items
    assert items in (45, 46, 47)
    rows, steps = mixture.index.find("toy_a", "train", np.arange(items))
    seen = pl.DataFrame({"e": [mixture.index.row(r).episode_id for r in rows.tolist()], "s": steps}).group_by("e", "s").len()
    counts = {(e, s): n for e, s, n in seen.iter_rows()}
    for number in range(len(mixture.index)):
        row = mixture.index.row(number)
        for step in range(row.steps):
            assert abs(counts.get((row.episode_id, step), 0) - wanted[row.episode_id]) < 1
    epoch = mixture.plan.draw(np.arange(items))
    assert np.array_equal(np.sort(epoch.item), np.arange(items))  # multiplicities are honoured exactly, every epoch
    assert report.shares[0].ess == pytest.approx(1 / sum(w * w * counts_of(mixture, e) for e, w in wanted.items()))
    assert "weights: effective size" in report.shares[0].note
    assert mix(scored, spec).fresh is False
    assert open_mixture(scored, "ratio").index.digest() == mixture.index.digest()


def counts_of(mixture, episode):
    return sum(mixture.index.row(n).steps for n in range(len(mixture.index)) if mixture.index.row(n).episode_id == episode) / 46


def test_loss_weights_make_up_for_the_rounding(scored):
    mix(scored, only_a("loss", WeightSpec(score="ratio", low=-1, high=0.8)))
    dataset, wanted = load("loss", scored, keys=["action"]), expected(scored, np.exp([-1, 0, 0.5, 0.8]))
    items = dataset.order.sources[0].items
    found = [dataset[t] for t in range(items)]
    summed: dict[tuple[str, int], float] = {}
    for sample in found:
        key = (sample["episode_id"], int(sample["frame_index"]))
        summed[key] = summed.get(key, 0.0) + float(sample["loss_weight"])
    assert all(total == pytest.approx(wanted[e], rel=1e-5) for (e, _), total in summed.items())
    batch = dataset.batch(list(range(8)))
    assert batch["loss_weight"].tolist() == [float(s["loss_weight"]) for s in found[:8]]
    assert set(load("loss", scored, keys=["action"], split="train")[0]) >= {"loss_weight"}


def test_spans_cut_episodes(scored):
    compiled = compile_mixture(scored, only_a("spans", WeightSpec(score="phase", form="linear")))
    frame = compiled.index.frame()
    assert len(frame) == 5
    assert compiled.shares[0].episodes == compiled.index.episodes("toy_a", "train") == 4
    first = frame.head(2)
    assert first["steps"].to_list() == [4, 8]
    assert first["first_row"].to_list() == [0, 4]
    mean = (4 * 3 + 42) / 46
    assert (first["weight"] / UNIT).to_list() == pytest.approx([3 / mean, 1 / mean], abs=1e-6)
    mix(scored, only_a("spans", WeightSpec(score="phase", form="linear"), statistics=True))
    dataset = load("spans", scored, keys=["observation.state"])
    items = dataset.order.sources[0].items
    for sample in dataset.__getitems__(range(items)):
        assert int(sample["observation.state"][0]) == numbers(scored)[sample["episode_id"]] + int(sample["frame_index"])
    assert open_mixture(scored, "spans").statistics.rows[0].count == 46  # each step once, however it is cut


def numbers(lake):
    """State x of the first step of each episode of toy_a, which counts through the source."""
    rows = Catalog(lake).latest("episodes").filter(pl.col("dataset") == "toy_a").sort("key").collect()
    return dict(zip(rows["episode_id"], (rows["steps"].cum_sum() - rows["steps"]).to_list(), strict=True))


def test_terms_of_expressions_apply_to_their_sources_alone(scored):
    term = WeightSpec(column="CASE WHEN steps >= 12 THEN 2 ELSE 1 END", form="linear", sources=("toy_a",))
    base, weighted = (compile_mixture(scored, toy_spec(weights=w, resampling=LOOSE)) for w in ((), (term,)))
    frame = weighted.index.frame().filter(pl.col("source") == "toy_a")
    ratio = frame.filter(pl.col("steps") >= 12)["weight"].unique() / frame.filter(pl.col("steps") < 12)["weight"].unique()
    assert ratio.to_list() == pytest.approx([2], abs=1e-5)
    assert weighted.index.frame().filter(pl.col("source") == "toy_b")["weight"].unique().to_list() == [UNIT]
    b = [c.plan.draw(np.arange(900)) for c in (base, weighted)]
    items = [d.item[d.source == 1] for d in b]
    assert not np.array_equal(*items)  # its items are copies now, so it has an order of its own
    other = compile_mixture(scored, toy_spec(weights=(replace(term, strength=2.0),), resampling=LOOSE)).plan.draw(np.arange(900))
    assert np.array_equal(other.item[other.source == 1], items[1])  # which the weights of others do not disturb
    with pytest.raises(UsageError, match="names nosuch; `episodes` has"):
        compile_mixture(scored, only_a("x", WeightSpec(column="nosuch")))


def test_gates_and_locality(scored):
    spec = only_a("gated", WeightSpec(score="ratio", strength=0.0, at_least=0.0), locality=LocalitySpec(1))
    compiled = compile_mixture(scored, spec)
    assert compiled.shares[0].episodes == 3
    assert compiled.shares[0].steps == 34
    mix(scored, replace(spec, locality=LocalitySpec(2, block_steps=4)))
    dataset = load("gated", scored, keys=["observation.images.front"])
    batches = [b for b, _ in zip(dataset.loader(8, threads=0), range(4), strict=False)]
    assert [i for b in batches for i in b["index"].tolist()] == list(range(32))
    for found in dataset.locator(range(34)):
        first, stop = dataset.locator.span(found)
        assert first <= found.step < stop


def test_what_would_lose_too_much_is_refused_with_the_figures(scored):
    sharp = WeightSpec(score="ratio", strength=20.0)
    with pytest.raises(InfeasibleMixtureError, match=r"effective sample size of \d+ of 46 steps \(.*min_ess = 0\.9"):
        compile_mixture(scored, only_a("sharp", sharp, resampling=ResamplingSpec(min_ess=0.9)))
    retention = ResamplingSpec(min_ess=0, min_retention=0.6, by="task")
    gate = WeightSpec(score="ratio", strength=0.0, at_least=0.9)
    with pytest.raises(InfeasibleMixtureError, match=r"min_retention = 0\.6 of 2 of 2 groups by task \('task 0' 0 of \d+ steps"):
        compile_mixture(scored, only_a("narrow", gate, resampling=retention))
    with pytest.raises(InfeasibleMixtureError, match="shut out all 46 steps"):
        compile_mixture(scored, only_a("shut", WeightSpec(score="ratio", at_least=99.0)))


def test_missing_values_are_never_silent(scored):
    with pytest.raises(UsageError, match=r"score partly has no value for 34 of 46 steps \(3 episodes: ep-"):
        compile_mixture(scored, only_a("missing", WeightSpec(score="partly")))
    kept = compile_mixture(scored, only_a("missing", WeightSpec(score="partly", missing="drop")))
    assert kept.shares[0].steps == 12
    neutral = compile_mixture(scored, only_a("missing", WeightSpec(score="partly", missing="neutral")))
    assert neutral.shares[0].steps == 46
    with pytest.raises(UsageError, match=r"no score 'rati'.*partly, phase, ratio"):
        compile_mixture(scored, only_a("missing", WeightSpec(score="rati")))
    with pytest.raises(UsageError, match=r"names the source 'toy_c'.*did you mean toy_"):
        only_a("missing", WeightSpec(score="ratio", sources=("toy_c",)))


def test_held_out_steps_are_not_weighed(scored):
    spec = load_spec("""
name = "held"
samples = 500
statistics = false
[split]
val = 0.4
salt = "c"
by = "episode_id"
[[sources]]
name = "toy_a"
[[weights]]
score = "ratio"
low = -2
[resampling]
min_ess = 0
min_retention = 0
""")
    compiled = compile_mixture(scored, spec)
    val = compiled.index.frame().filter(pl.col("split") == "val")
    assert len(val) > 0
    assert val["weight"].unique().to_list() == [UNIT]
    assert compiled.index.items("toy_a", "val") == val["steps"].sum()
    assert dataset_shares(open_mixture(scored, "held", mix(scored, spec).hash)) == {"toy_a": pytest.approx(1)}
