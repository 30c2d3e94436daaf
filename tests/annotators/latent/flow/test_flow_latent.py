"""`flow_latent`: the annotator contract, the motion it tells, and that it is no better than its pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotators.base import Batch
from annotators.clips import no_clip
from annotators.latent.flow.flow_latent import FlowLatent, FlowLatentConfig
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.moving_square import HZ, pushes, square_batch

ONE = FlowLatentConfig(hz=float(HZ), horizons_s=(0.2,))


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return FlowLatent(ONE)

    @pytest.fixture
    def changed(self) -> Any:
        return FlowLatent(replace(ONE, horizons_s=(0.2, 0.4)))

    @pytest.fixture
    def clipped(self) -> Any:
        return FlowLatent(replace(ONE, boundary="clip"))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: square_batch(pushes(4, 8), hz) for hz in (HZ, 4 * HZ)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[HZ].take([0, 1])
        first, second = batch.clips["front"]
        return replace(batch, clips={"front": (no_clip(len(first.seen)), second)})


def test_a_row_per_picture_and_horizon_says_which_pictures_it_compared() -> None:
    batch = square_batch(pushes(2, 6))
    rows = FlowLatent(FlowLatentConfig(hz=float(HZ), horizons_s=(0.2, 0.6))).run(batch).to_pylist()
    assert len(rows) == 2 * 6 * 2
    near, far = rows[0], rows[1]
    assert (near["t0_ns"], near["t1_ns"], far["t1_ns"]) == (0, 200_000_000, 600_000_000)
    assert (near["end_step"], far["end_step"]) == (1, 3)
    assert len(near["z"]) == 38
    late = [r for r in rows[:12] if not r["valid"]]
    assert {r["reason"] for r in late} == {"horizon_past_end"}
    assert [r["horizon_s"] for r in late] == pytest.approx([0.6, 0.6, 0.2, 0.6])


def test_mean_flow_follows_the_push() -> None:
    film = pushes(60, 2, 3)
    rows = FlowLatent(ONE).run(square_batch(film))
    affine = np.array([r["z"][-6:] for r in rows.to_pylist() if r["valid"]]).reshape(-1, 2, 3)
    for axis in (0, 1):
        assert np.corrcoef(affine[:, axis, 0], film.action[:, 0, axis])[0, 1] > 0.6


def test_it_tells_more_than_the_first_picture_and_its_shuffled_twin_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import annotators.latent.gates.batches as module

    batch, own = square_batch(pushes(40, 5, 1)), FlowLatent(ONE)
    report = module.evaluate_latents(own, batch, network=False)[0]
    assert (report.metric, report.gate, report.gt_source) == ("action_r2_linear", "pass", "proprioception")
    assert {"frame_t", "state", "permuted", "raw_pair"} <= report.baselines.keys()
    plain = module.gather
    monkeypatch.setattr(module, "gather", lambda *args: plain(*args).shuffled())  # type: ignore[union-attr]
    assert module.evaluate_latents(own, batch, network=False)[0].gate == "fail"


def test_settings_that_show_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="longer than half"):
        FlowLatentConfig(hz=2.0, horizons_s=(0.2,))
    with pytest.raises(UsageError, match="at least 4 pixels"):
        FlowLatentConfig(side=16, cells=8)
