"""`latent_action`: the annotator contract, pictures encoded once, and rows that say what cannot be said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotators.base import Batch
from annotators.clips import no_clip
from annotators.latent import checkpoint
from annotators.latent.config import Lam
from annotators.latent.evaluation import evaluate
from annotators.latent.latent_action import LatentAction, LatentActionConfig
from annotators.latent.model import build
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.moving_square import HZ, pushes, square_batch

TINY = Lam().changed({"side": 32, "width": 4, "dim": 3, "horizons_s": "[0.2]"})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def written(folder: Path, lam: Lam = TINY, **settings: Any) -> str:
    """A checkpoint of a model that was never trained."""
    chosen = lam.changed(settings)
    checkpoint.save(folder, chosen, build(chosen).state_dict())
    return str(folder)


def asked(folder: str, **settings: Any) -> LatentAction:
    return LatentAction(LatentActionConfig(folder, hz=float(HZ), least_gain=None, **settings))


class TestContract(AnnotatorContract):
    tolerance = 2e-3  # latents are kept as float16

    @pytest.fixture
    def annotator(self, tmp_path: Path) -> Any:
        return asked(written(tmp_path / "one"))

    @pytest.fixture
    def changed(self, annotator: LatentAction) -> Any:
        return replace(annotator, config=replace(annotator.config, judge=False))

    @pytest.fixture
    def reweighted(self, tmp_path: Path) -> Any:
        return asked(written(tmp_path / "two", seed=2))

    @pytest.fixture
    def clipped(self, annotator: LatentAction) -> Any:
        return replace(annotator, config=replace(annotator.config, boundary="clip"))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: square_batch(pushes(4, 8), hz) for hz in (HZ, 4 * HZ)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[HZ].take([0, 1])
        first, second = batch.clips["front"]
        return replace(batch, clips={"front": (no_clip(len(first.seen)), second)})


def test_every_picture_is_encoded_once_whatever_pairs_it_is_in(tmp_path: Path) -> None:
    folder = written(tmp_path, horizons_s="[0.2, 0.4, 0.6]")
    batch = replace(square_batch(pushes(5, 9)), at_once=7)
    model = checkpoint.load(folder)
    before = model.encoded
    rows = [r for r in asked(folder).run(batch).to_pylist() if r["t1_ns"] is not None and r["valid"]]
    assert model.encoded - before == sum(map(len, batch.clips["front"])) == 45
    assert len(rows) == 5 * (8 + 7 + 6)  # a script that goes pair by pair encodes 210 pictures


def test_rows_are_what_the_model_says_pair_by_pair(tmp_path: Path) -> None:
    folder, batch = written(tmp_path, horizons_s="[0.2, 0.6]"), square_batch(pushes(2, 5))
    model = checkpoint.load(folder)
    for row in asked(folder).run(batch).to_pylist():
        if not row["valid"]:
            assert row["z"] is None
            continue
        clip = batch.clips["front"][batch.episodes.index(row["episode_id"])]
        a, b = (torch.from_numpy(clip.pictures[np.flatnonzero(clip.t_ns == row[t])]) for t in ("t0_ns", "t1_ns"))
        a, b = (x.permute(0, 3, 1, 2).float() / 255 for x in (a, b))
        which = torch.tensor([int(row["horizon_s"] > 0.4)])
        with torch.inference_mode():
            latent = model.infer(model.encode(a), model.encode(b), which)
            later = model.predict(a, latent.value, which).later
        assert row["z"] == pytest.approx(latent.mean.flatten().tolist(), abs=2e-3)
        mask = (b - a).abs().amax(1) > TINY.training.motion_above
        if mask.any():
            own, copy = ((x - b).abs().mean(1)[mask].mean().item() for x in (later, a))
            assert (row["recon_chg"], row["copy_chg"]) == pytest.approx((own, copy), rel=1e-4)
            assert row["gain"] == pytest.approx(1 - own / copy, abs=1e-4)


def test_a_latent_that_explains_nothing_is_not_valid(tmp_path: Path) -> None:
    """A model that copies has a gain of exactly nothing."""
    lam = TINY.changed({"carry": "false"})
    model = build(lam)
    torch.nn.init.zeros_(model.decoder.out.weight)
    torch.nn.init.zeros_(model.decoder.out.bias)
    checkpoint.save(tmp_path, lam, model.state_dict())
    rows = LatentAction(LatentActionConfig(str(tmp_path), hz=float(HZ))).run(square_batch(pushes(3, 6))).to_pylist()
    reasons = {r["reason"] for r in rows if r["gain"] is not None}
    assert reasons == {"explains_nothing"}


def test_codes_that_were_fitted_to_latents_come_with_them(tmp_path: Path) -> None:
    books = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    checkpoint.save(tmp_path, TINY, build(TINY).state_dict(), books)
    for row in asked(str(tmp_path)).run(square_batch(pushes(2, 4))).to_pylist():
        if row["valid"]:
            left = np.array(row["z"])
            for level, code in enumerate(row["code"]):
                gaps = np.linalg.norm(books[level] - left, axis=1)
                assert gaps[code] == pytest.approx(gaps.min(), abs=5e-3)
                left = left - books[level][code]
                assert row["code_dist"][level] == pytest.approx(np.linalg.norm(left), abs=5e-3)


def test_without_a_checkpoint_rows_say_so_and_a_wrong_one_is_told_early(tmp_path: Path) -> None:
    rows = LatentAction().run(square_batch(pushes(2, 4))).to_pylist()
    assert [r["reason"] for r in rows] == ["no_checkpoint"] * 2
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        LatentAction.from_settings({"checkpoint": str(tmp_path)})
    with pytest.raises(UsageError, match="too slow"):
        LatentAction.from_settings({"checkpoint": written(tmp_path / "m"), "hz": "2.0"})


def test_evaluation_has_every_gate_and_an_untrained_model_passes_none_that_matters(tmp_path: Path) -> None:
    folder, batch = written(tmp_path, horizons_s="[0.2, 0.4]"), square_batch(pushes(40, 5, 1))
    plain = asked(folder, camera_motion=False)
    reports = {r.metric: r for r in evaluate(plain, replace(plain, trained=False), batch, network=False)}
    gates = ("action_r2_linear", "second_picture_r2", "motion_correlation", "gain_on_changed", "scene_cut_ratio", "shuffle_ratio")
    for horizon in ("0.2", "0.4"):
        assert {f"{gate}.@{horizon}s" for gate in gates} <= reports.keys()
        probe = reports[f"action_r2_linear.@{horizon}s"]
        assert {"frame_t", "state", "permuted", "flow_latent", "random_init", "raw_pair"} <= probe.baselines.keys()
        assert probe.gate == reports[f"shuffle_ratio.@{horizon}s"].gate == "fail"
        assert reports[f"cycle_ratio.@{horizon}s"].gate == "not-measurable"
