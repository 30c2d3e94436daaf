"""The cache stage on toys: exact rows, exactly once, and only what changed is computed again."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.ingest import IngestStage
from pipelines.integrity import verify_lake
from pipelines.residuals.conventions import convention
from pipelines.residuals.drawing import noise_of
from pipelines.residuals.pair import TeacherPair
from pipelines.residuals.store import open_cache
from pipelines.shards.draft import EpisodeDraft
from pipelines.sources.base import Group, SourceOptions
from pipelines.unit import execute, run_stage
from schemas.contract import Contract
from schemas.errors import LakeError, UsageError
from tests.support.mixtures import ingest_two_toys
from tests.support.residuals import HERE, HORIZON, WIDTH, TinyNet, cache, mix_toys, stage_of, tiny_prepare, tiny_teacher
from tests.support.toys import ToySource


def rows_of(lake: Lake, teacher: str) -> pl.DataFrame:
    return Catalog(lake).latest("residuals").filter(pl.col("teacher") == teacher).collect()


def test_rows_are_what_the_definition_says(toy_mixture: Lake) -> None:
    teacher = tiny_teacher(name="exact")
    report = cache(toy_mixture, teacher, draws=3, batch=5)
    assert (report.total("rows"), report.rejects) == (97 * 3, ())
    held = open_cache(toy_mixture, "exact")
    assert len(held) == 97 * 3
    stage = stage_of(toy_mixture, teacher, draws=3, batch=5)
    for ref in stage.episodes()[::4]:
        part = stage.readers[ref.dataset].read(ref, range(ref.first, ref.stop))
        ready = tiny_prepare(part.batch)
        for k in range(3):
            rows = held.take([held.row(ref.episode_id, f, k) or 0 for f in part.frames])
            noise = torch.from_numpy(noise_of(rows["seed"], HORIZON, WIDTH, WIDTH)).float()
            tau = torch.from_numpy(rows["tau_a"])
            point = tau[:, None, None] * noise + (1 - tau[:, None, None]) * ready["action"]
            with torch.no_grad():
                said = [teacher.velocity(dict(ready), point, tau, privileged=p) for p in (False, True)]
            assert rows["v_base"].astype(float) == pytest.approx(said[0].numpy(), rel=1e-3, abs=1e-3)
            assert rows["residual"].astype(float) == pytest.approx((said[1] - said[0]).numpy(), rel=1e-3, abs=1e-3)
            real = ~part.batch["action_is_pad"].numpy()
            assert np.array_equal(rows["action_is_pad"], ~real)
            wrong = ((said[1] - (noise - ready["action"])) ** 2).numpy()
            expected = [w[m].mean() if m.any() else np.nan for w, m in zip(wrong, real, strict=True)]
            assert rows["gt_err_teacher"] == pytest.approx(expected, rel=1e-4, nan_ok=True)
        shared = held.take(np.arange(len(held)), ["action"])["action"]
        assert shared.shape == (len(held), HORIZON, WIDTH)


def test_storage_is_as_the_sheet_states(toy_mixture: Lake) -> None:
    cache(toy_mixture, tiny_teacher(name="bytes"), draws=4, audit_share=0.0)
    table = pa.ipc.open_file(toy_mixture.path(rows_of(toy_mixture, "bytes")["uri"][0])).read_all()
    chunk = HORIZON * WIDTH
    # Two vectors, scalars, padding, offsets of the two sparse columns, and the action once per frame.
    assert table.nbytes / table.num_rows == pytest.approx(4 * chunk + 50 + 1 + 2 * 4 + 4 * chunk / 4, abs=1)
    assert table.schema.field("residual").type == pa.list_(pa.field("item", pa.float16(), nullable=False), chunk)
    assert {len(c.chunks) for c in table.columns} == {1}
    strata = open_cache(toy_mixture, "bytes").take(np.arange(97 * 4), ["tau_a"])["tau_a"].reshape(-1, 4)
    assert (np.floor(strata * 4) == np.arange(4)).all()


def test_it_is_done_once_and_again_only_where_something_changed(lake: Lake) -> None:
    mix_toys(ingest_two_toys(lake))
    first = cache(lake, tiny_teacher(), draws=2)
    before = {u: lake.fs.cat_file(lake.path(u)) for u in rows_of(lake, "tiny")["uri"]}
    assert first.count("done") == 4
    assert cache(lake, tiny_teacher(), draws=2).count("skipped") == 4
    run_stage(IngestStage(lake, Nudged(options=SourceOptions("toy_a"), lengths=(12, 9, 15, 10))), execution=HERE)
    mix_toys(lake)
    again = cache(lake, tiny_teacher(), draws=2)
    changed = [u for u in again.units if u.status == "done"]
    assert [(u.rows, u.dataset) for u in changed] == [(9 * 2, "toy_a")]  # the one episode that was nudged, not its shard
    assert {u: lake.fs.cat_file(lake.path(u)) for u in before} == before
    stage = stage_of(lake, tiny_teacher(), draws=2)
    held = open_cache(lake, "tiny", stage.key, {r.episode_id: r.key for r in stage.episodes()})
    assert len(held) == 97 * 2
    assert sorted(held.episodes) == sorted({r.episode_id for r in stage.episodes()})


@dataclass(frozen=True)
class Nudged(ToySource):
    """The toy source with one state of its second episode changed."""

    def groups(self) -> list[Group]:
        return [replace(g, inputs=["nudged", g.inputs]) for g in super().groups()]

    def episode(self, index: int) -> EpisodeDraft:
        draft = super().episode(index)
        if index != 1:
            return draft
        column = draft.steps.schema.get_field_index("observation.state")
        values = np.asarray(draft.steps.column(column).combine_chunks().values).copy()
        values[0] += 1
        kind = draft.steps.schema.field(column)
        changed = pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind.type)
        return replace(draft, steps=draft.steps.set_column(column, kind, changed))


@dataclass(frozen=True)
class Other(ToySource):
    """The toy source under another contract."""

    def contract(self) -> Contract:
        return replace(super().contract(), last_action_valid=False)


def test_any_other_change_is_another_cache(toy_mixture: Lake) -> None:
    net = TinyNet(3)

    def key(**changes: Any) -> str:
        config = {
            k: changes.pop(k) for k in list(changes) if k in ("draws", "seed", "batch", "mode", "future_noise", "tau", "compute")
        }
        return stage_of(toy_mixture, tiny_teacher(name="keys", net=net, **changes), **config).key

    base = key()
    assert key() == base
    others = [
        key(draws=8), key(seed=1), key(batch=8), key(tau="shifted(5)"), key(future_noise="clean"), key(compute="bfloat16"),
        key(mask_id="other"), key(norm_sha="other"), key(preproc_sha="other"), key(config_sha="other"), key(dtype="bfloat16"),
        key(attention="flash"), key(policy="fastwam"), key(code_sha="other"), key(mode="frozen_teacher_live_student"),
    ]  # fmt: skip
    with torch.no_grad():
        net.layer.weight[0, 0] += 1e-7
    others.append(key())
    assert len({base, *others}) == len(others) + 1


def test_a_new_contract_invalidates_its_dataset_and_no_other(lake: Lake) -> None:
    mix_toys(ingest_two_toys(lake))
    cache(lake, tiny_teacher(), draws=1)
    run_stage(IngestStage(lake, Other(options=SourceOptions("toy_a"), lengths=(12, 9, 15, 10))), execution=HERE)
    mix_toys(lake)
    again = cache(lake, tiny_teacher(), draws=1)
    assert {u.dataset for u in again.units if u.status == "done"} == {"toy_a"}
    assert again.total("rows") == 46


def test_an_interrupted_run_goes_on_without_duplicates(lake: Lake) -> None:
    mix_toys(ingest_two_toys(lake))
    stage = stage_of(lake, tiny_teacher(), draws=2, unit_rows=30)
    units = list(stage.plan())
    assert len(units) > 4
    execute(stage, units[0], "run-a")
    output = stage.work(units[1])  # killed after writing its files, before the catalog heard of them
    assert output.rows
    report = run_stage(stage_of(lake, tiny_teacher(), draws=2, unit_rows=30), execution=HERE)
    assert report.count("done") == len(units) - 1
    table = rows_of(lake, "tiny")
    assert table["rows"].sum() == 97 * 2
    keys = [k for ks in table["episode_keys"] for k in ks]
    assert len(keys) == len(set(keys)) == 10
    lost = lake.path(table["uri"][0])
    lake.fs.rm_file(lost)
    assert verify_lake(lake).missing == (table["uri"][0],)
    with pytest.raises(LakeError, match="--repair"):
        open_cache(lake, "tiny")
    assert run_stage(stage_of(lake, tiny_teacher(), draws=2, unit_rows=30), execution=HERE, repair=True).count("done") == 1
    assert len(open_cache(lake, "tiny")) == 97 * 2


def test_an_episode_whose_answer_cannot_be_stored_goes_to_quarantine(toy_mixture: Lake) -> None:
    net = TinyNet()
    with torch.no_grad():
        net.layer.weight[:, 0] = 1e4  # the state's first number counts frames: from the seventh on, answers leave float16
    report = cache(toy_mixture, tiny_teacher(name="large", net=net), draws=1, sources=("toy_a",))
    assert report.rejects
    assert "cannot be stored as float16" in report.rejects[0].message
    assert {r.error for r in report.rejects} == {"TeacherError"}


def test_pairs_that_do_not_belong_together_are_refused() -> None:
    for change, what in [
        ({"norm_sha": "other"}, "normalisers"), ({"horizon": 8}, "horizons"), ({"action_dim": 3}, "numbers of action scalars"),
        ({"action_space": "arm/7"}, "action spaces"), ({"control_hz": 5.0}, "rates"), ({"policy": "act"}, "kinds"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=what):
            TeacherPair(tiny_teacher(), tiny_teacher(name="student", **({"privileged": ()} | change)))
    with pytest.raises(UsageError, match="will not have"):
        TeacherPair(tiny_teacher(), tiny_teacher(name="student"))


def test_two_models_are_one_teacher(toy_mixture: Lake) -> None:
    wise, plain = tiny_teacher(1, "pair"), tiny_teacher(2, "plain", privileged=())
    cache(toy_mixture, TeacherPair(wise, plain), draws=1)
    held = open_cache(toy_mixture, "pair").take(np.arange(97))
    assert np.abs(held["residual"]).mean() > 0.05
    with pytest.raises(UsageError, match="needs a mask teacher or --student"):
        cache(toy_mixture, plain, draws=1)


def test_a_teacher_of_another_action_space_or_rate_is_refused(toy_mixture: Lake) -> None:
    with pytest.raises(UsageError, match="trained on the action space arm/7"):
        stage_of(toy_mixture, tiny_teacher(action_space="arm/7")).plan()
    with pytest.raises(UsageError, match="at 5 Hz, dataset toy_a at 20 Hz"):
        stage_of(toy_mixture, tiny_teacher(control_hz=5.0)).plan()
    with pytest.raises(UsageError, match="no source toy_c; it has toy_a, toy_b"):
        stage_of(toy_mixture, tiny_teacher(), sources=("toy_c",)).plan()
    with pytest.raises(UsageError, match="gives regression, which mode frozen_pair cannot store; use regression, error"):
        stage_of(toy_mixture, tiny_teacher(convention=convention("act"))).plan()
    assert dataclasses.is_dataclass(stage_of(toy_mixture, tiny_teacher()).config)
