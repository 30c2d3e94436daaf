"""Audits: bit-identical where nothing changed, stale where the student moved, refused where it moved too far."""

import numpy as np
import polars as pl
import pytest
import torch

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.residuals.audit import audit, record
from pipelines.residuals.compute import compute
from pipelines.residuals.gates import measure_leak
from pipelines.residuals.listing import list_caches, why_missed
from pipelines.residuals.store import open_cache
from schemas.errors import UsageError
from tests.support.residuals import TinyNet, cache, stage_of, tiny_teacher


def test_the_same_parts_give_the_same_bits(toy_mixture: Lake) -> None:
    cache(toy_mixture, tiny_teacher(name="audited"), draws=3, batch=6)
    found = audit(stage_of(toy_mixture, tiny_teacher(name="audited"), draws=3, batch=6), share=1.0)
    assert (found.rows, found.share, found.identical, found.verdict) == (97 * 3, 1.0, 1.0, "ok")
    assert found.staleness == 0.0
    assert (found.snr_db or 0) > 60  # float16 of a float32 residual
    some = audit(stage_of(toy_mixture, tiny_teacher(name="audited"), draws=3, batch=6))
    assert 3 <= some.rows <= 18
    held = open_cache(toy_mixture, "audited")
    rows, values = held.files[0].audited
    assert len(rows) >= 3
    stored = held.files[0].columns["residual"][rows].reshape(len(rows), -1)
    assert np.array_equal(values[:, 16:].astype(np.float16), stored)


def test_other_batches_differ_by_rounding_alone(toy_mixture: Lake) -> None:
    stage = stage_of(toy_mixture, tiny_teacher(name="batches"), draws=2)
    ref = stage.episodes()[0]
    reader, config = stage.readers[ref.dataset], stage.config
    frames = list(range(ref.first, ref.stop))
    whole, _ = compute(stage.teacher, config, reader.read(ref, frames))
    again, _ = compute(stage.teacher, config, reader.read(ref, frames))
    assert np.array_equal(whole["audit_fp32"], again["audit_fp32"])
    singles = np.concatenate([compute(stage.teacher, config, reader.read(ref, [f]))[0]["audit_fp32"] for f in frames])
    residual = whole["audit_fp32"][:, 16:]
    assert np.abs(singles[:, 16:] - residual).max() <= 1e-5 * np.abs(residual).mean()


def test_nothing_leaks_into_the_student(toy_mixture: Lake) -> None:
    stage = stage_of(toy_mixture, tiny_teacher(name="tight"))
    ref = stage.episodes()[0]
    part = stage.readers[ref.dataset].read(ref, range(6))
    leak = measure_leak(stage.teacher, stage.config, part)
    assert leak.student == 0.0
    assert leak.teacher > 0.01
    assert leak.sound
    both = tiny_teacher(name="leaky")
    object.__setattr__(both, "function", lambda r, x, t, _p, f=both.function: f(r, x, t, True))  # a student that sees the future
    assert not measure_leak(both, stage.config, part).sound


@pytest.mark.parametrize(("step", "verdict"), [(0.0, "ok"), (0.3, "warn"), (2.0, "refuse")])
def test_a_student_that_moved_is_noticed(toy_mixture: Lake, step: float, verdict: str) -> None:
    name = f"moved-{verdict}"
    cache(toy_mixture, tiny_teacher(name=name), draws=2)
    key = open_cache(toy_mixture, name).key
    net = TinyNet()
    with torch.no_grad():
        net.layer.bias += step
    stage = stage_of(toy_mixture, tiny_teacher(name=name, net=net), draws=2)
    found = audit(stage, key, share=0.5)
    assert (found.verdict, found.same_key) == (verdict, step == 0.0)
    record(stage, found)
    record(stage, found)
    rows = Catalog(toy_mixture).latest("residuals").filter(pl.col("teacher") == name).collect()
    assert rows["staleness"].to_list() == [found.staleness] * 4
    listed = list_caches(Catalog(toy_mixture)).filter(pl.col("teacher") == name)
    assert listed["rows"].to_list() == [97 * 2]
    if step:
        assert why_missed(Catalog(toy_mixture), name, stage.parts) == ["teacher.weights_sha"]


def test_a_cache_is_named_exactly(toy_mixture: Lake) -> None:
    cache(toy_mixture, tiny_teacher(name="twice"), draws=1)
    cache(toy_mixture, tiny_teacher(name="twice"), draws=2)
    with pytest.raises(UsageError, match="2 caches of teacher 'twice' fit"):
        open_cache(toy_mixture, "twice")
    with pytest.raises(UsageError, match="nothing is cached for it"):
        open_cache(toy_mixture, "never")
    other = stage_of(toy_mixture, tiny_teacher(name="twice"), draws=4)
    with pytest.raises(UsageError, match="say --mode frozen_pair --draws 2"):
        audit(other, stage_of(toy_mixture, tiny_teacher(name="twice"), draws=2).key)
    seeded = stage_of(toy_mixture, tiny_teacher(name="twice"), draws=2, seed=9)
    with pytest.raises(UsageError, match="other draws"):
        audit(seeded, stage_of(toy_mixture, tiny_teacher(name="twice"), draws=2).key)
    with pytest.raises(UsageError, match="has no column speed"):
        open_cache(
            toy_mixture, "twice", other.key if False else stage_of(toy_mixture, tiny_teacher(name="twice"), draws=2).key
        ).take([0], ["speed"])
