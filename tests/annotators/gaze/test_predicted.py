"""Predicted gaze: a small network on scenes it has not seen, against every prior; and what is refused."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotators.base import Batch, in_test
from annotators.check import check_output
from annotators.gaze.labels import Labelled, joined, label, thinned, windows_of
from annotators.gaze.model import GazeNetSpec, build, predict, read_spec, save
from annotators.gaze.predicted import PredictedGaze, PredictedGazeConfig, told
from annotators.gaze.priors import added, fit_centre, fit_weights, mean_map
from annotators.gaze.train import Trained, cost, crops, moved, train
from schemas.contract import Contract
from schemas.errors import AnnotatorError, UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.gaze import Ego, wearer, with_gaze
from tests.support.views import filmed
from transforms.gaze.maps import heat

SPEC = GazeNetSpec(side=48, frames=2, hz=4.0, width=8, dim=32, layers=1, heads=2, steps=150, batch=16, rate=4e-3)
EGO = Ego(fps=5)
UNSEEN = tuple(range(10))
SEEN = tuple(range(100, 118))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def labels_of(batch: Batch, spec: GazeNetSpec = SPEC) -> Labelled:
    found = label(batch, batch.camera("scene"), spec.frames, spec.hz, spec.side)
    assert not isinstance(found, str), found
    return found


@lru_cache
def trained() -> Trained:
    torch.set_num_threads(1)
    return train(labels_of(wearer(SEEN, 5, EGO)), SPEC)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gaze") / "gaze.safetensors"
    save(trained().model, SPEC, path)
    return str(path)


def centre_map(pictures: np.ndarray) -> np.ndarray:
    """What a user's checkpoint might be."""
    assert pictures.shape == (3, 32, 32, 3)
    return heat([0.5, 0.25], (8, 8), 0.1)


def no_map(pictures: np.ndarray) -> np.ndarray:
    return -np.ones((8, 8))


class TestContract(AnnotatorContract):
    tolerance = 1e-4

    @pytest.fixture
    def annotator(self, weights: str) -> Any:
        return PredictedGaze(PredictedGazeConfig(weights))

    @pytest.fixture
    def changed(self) -> Any:
        return PredictedGaze(PredictedGazeConfig(side=48, frames=2))

    @pytest.fixture
    def reweighted(self, tmp_path: Path) -> Any:
        path = tmp_path / "other.safetensors"
        save(build(replace(SPEC, seed=1)), SPEC, path)
        return PredictedGaze(PredictedGazeConfig(str(path)))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: wearer((0, 1, 2), hz, Ego(fps=5, seconds=3.0)) for hz in (5, 15)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = wearer((0, 1, 2), 5, Ego(fps=5, seconds=3.0))
        first, *others = whole.clips["scene"]
        blind = replace(
            first, pictures=first.pictures[:0], t_ns=first.t_ns[:0], step=first.step[:0], seen=np.full(len(first.seen), -1)
        )
        return replace(whole, clips={**whole.clips, "scene": (blind, *others)})


class TestPriorsContract(TestContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return PredictedGaze(PredictedGazeConfig(side=48, frames=2))

    @pytest.fixture
    def changed(self) -> Any:
        return PredictedGaze(PredictedGazeConfig(side=48, frames=2, centre_sigma=0.3))

    @pytest.fixture
    def reweighted(self) -> Any:
        return None


def test_the_network_beats_every_prior_on_scenes_it_has_not_seen(weights: str) -> None:
    batch = wearer(UNSEEN, 5, EGO)
    assert 0 < sum(in_test(batch.episodes)) < 10
    reports = {r.metric: r for r in PredictedGaze(PredictedGazeConfig(weights)).evaluate(batch)}
    for metric in ("gaze_sauc", "gaze_nss"):
        report = reports[metric]
        assert report.gate == "pass", (metric, report.value, report.baselines)
        assert set(report.baselines) == {
            "centre", "mean_map", "last_fixation", "other_time", "priors_together", "hand", "model_other_time",
        }  # fmt: skip
        assert report.split == "test"
    assert reports["gaze_sauc"].baselines["centre"] == pytest.approx(0.5, abs=0.03)
    assert reports["gaze_error"].detail["unit"] == "degrees"
    assert 0 < reports["gaze_f1"].detail["glc_compat"]["f1"] <= 1


def test_gaze_of_other_times_upside_down_or_turned_fails_the_gates(weights: str) -> None:
    """The adversarial twins: the same weights, judged by gaze that is not that of the pictures."""
    batch, annotator = wearer(UNSEEN, 5, EGO), PredictedGaze(PredictedGazeConfig(weights))
    twins: dict[str, Any] = {
        "shuffled": lambda v, t: (np.roll(v, len(v) // 2, 0), t),
        "flipped": lambda v, t: (np.stack([v[:, 0], 47 - v[:, 1]], 1), t),
        "turned": lambda v, t: (np.stack([(47 - v[:, 1]) * 64 / 48, v[:, 0] * 48 / 64], 1), t),
        "late": lambda v, t: (v, t + 1_500_000_000),
    }
    for name, change in twins.items():
        gates = {r.metric: r.gate for r in annotator.evaluate(with_gaze(batch, change))}
        assert "fail" in (gates["gaze_sauc"], gates["gaze_nss"]), name


def test_an_untrained_network_fails(tmp_path: Path) -> None:
    path = tmp_path / "untrained.safetensors"
    save(build(SPEC), SPEC, path)
    gates = {r.metric: r.gate for r in PredictedGaze(PredictedGazeConfig(str(path))).evaluate(wearer(UNSEEN, 5, EGO))}
    assert gates["gaze_sauc"] == gates["gaze_nss"] == "fail"


def test_pictures_are_encoded_once_and_windows_do_not_matter(weights: str) -> None:
    labelled, model = labels_of(wearer((0, 1, 2, 3), 5, EGO)), trained().model
    count, real = [0], model.encode

    def counted(pictures: Any) -> Any:
        count[0] += len(pictures)
        return real(pictures)

    model.encode = counted
    try:
        few = predict(model, labelled.pictures, labelled.window, 7)
    finally:
        del model.encode
    assert count[0] == len(np.unique(labelled.window))
    many = predict(model, labelled.pictures, labelled.window, 1000)
    assert np.abs(few - many).max() < 1e-5
    from annotators.gaze.model import as_input

    with torch.inference_mode():
        windows = as_input(torch.from_numpy(labelled.pictures[labelled.window]))
        plain = (model(windows) + model.prior).flatten(1).softmax(1).reshape(few.shape).numpy()
    assert np.abs(few - plain).max() < 1e-5


def test_training_is_the_same_every_time_and_its_loss_falls() -> None:
    labelled, spec = labels_of(wearer((0, 1, 2), 5, Ego(fps=5, seconds=3.0))), replace(SPEC, steps=3)
    one, two = (train(labelled, spec).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    losses = [loss for _, loss in trained().losses]
    assert losses[-1] < 0.9 * losses[0]


def test_crops_move_pictures_and_labels_alike() -> None:
    """A white spot at the label is still at the label after the crop."""
    spec = replace(SPEC, side=64, least_crop=0.6)
    xy = np.random.default_rng(0).uniform(0.1, 0.9, (40, 2))
    spots = np.rint(heat(xy, (64, 64), 0.03) / heat(xy, (64, 64), 0.03).max((1, 2), keepdims=True) * 255)
    grids, points = crops(xy, spec, 0)
    windows = torch.from_numpy(spots.astype(np.float32))[:, None, None].repeat(1, 1, 3, 1, 1)
    seen, prior = moved(windows, torch.zeros(16, 16), torch.from_numpy(grids))
    assert prior.shape == (40, 16, 16)
    best = seen[:, 0, 0].flatten(1).argmax(1).numpy()
    found = np.stack([(best % 64 + 0.5) / 64, (best // 64 + 0.5) / 64], 1)
    assert np.abs(found - points).max() < 1.6 / 64
    assert ((points >= 0) & (points <= 1)).all()


def test_thinned_labels_keep_their_pictures() -> None:
    labelled = labels_of(wearer((0, 1), 5, EGO))
    few = thinned(labelled, 20)
    assert len(few.pictures) <= 20
    assert len(few) == 10
    rows = [
        int(np.flatnonzero((labelled.xy == xy).all(1) & (labelled.owner == e))[0])
        for xy, e in zip(few.xy, few.owner, strict=True)
    ]
    assert np.array_equal(few.pictures[few.window], labelled.pictures[labelled.window[rows]])
    assert thinned(labelled, 10_000) is labelled


def test_the_loss_of_a_perfect_map_is_nothing() -> None:
    xy = np.array([[0.4, 0.6], [0.52, 0.31]])
    label = heat(xy, (SPEC.grid, SPEC.grid), SPEC.sigma_cells / SPEC.grid)
    logits = torch.from_numpy(np.log(np.maximum(label, 1e-12)))
    assert float(cost(logits, torch.from_numpy(xy.astype(np.float32)), SPEC)) < 0.02
    assert float(cost(torch.zeros_like(logits), torch.from_numpy(xy.astype(np.float32)), SPEC)) > 1


def test_kinds_of_gaze_are_never_mixed(weights: str, tmp_path: Path) -> None:
    recorded, arm = labels_of(wearer((0, 1), 5, EGO)), with_pictures(filmed(20))
    pseudo = label(arm, arm.camera("front"), SPEC.frames, SPEC.hz, SPEC.side, kind="pseudo_intent")
    assert not isinstance(pseudo, str)
    assert pseudo.source == "pseudo_intent"
    with pytest.raises(UsageError, match="never mixed"):
        joined([recorded, pseudo])
    with pytest.raises(UsageError, match="never mixed"):
        train(pseudo, SPEC)
    with pytest.raises(UsageError, match="never mixed"):
        train(recorded, replace(SPEC, labels="pseudo_intent"))
    path = tmp_path / "pseudo.safetensors"
    save(build(SPEC), replace(SPEC, labels="pseudo_intent"), path)
    annotator, batch = PredictedGaze(PredictedGazeConfig(str(path))), wearer((0, 1, 2, 3), 5, EGO)
    assert {r.gate for r in annotator.evaluate(batch)} == {"not-measurable"}
    assert "never compared" in annotator.evaluate(batch)[0].gt_source
    assert set(annotator.run(batch).column("source").to_pylist()) == {"predicted_pseudo_intent"}
    assert label(batch, batch.camera("scene"), 2, 4.0, 48, kind="pseudo_intent") == "recorded_gaze"


def with_pictures(batch: Batch) -> Batch:
    from annotators.clips import Clip

    clips = []
    for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        steps = np.arange(0, b - a, 5)
        seen = np.searchsorted(steps, np.arange(b - a), side="right") - 1
        clips.append(Clip(np.zeros((len(steps), 32, 32, 3), np.uint8), batch.t_ns[a:b][steps], steps, seen, (256, 256)))
    return replace(batch, clips={"front": tuple(clips)})


def test_a_function_of_the_users_predicts_too() -> None:
    annotator = PredictedGaze.from_settings({"function": f"{__name__}:centre_map", "frames": 3, "side": 32})
    batch = with_gaze(wearer((0, 1), 5, Ego(fps=5, seconds=3.0)), lambda v, t: (v, t))
    rows = check_output(annotator, batch, annotator.run(batch)).to_pylist()
    assert {tuple(np.round(r["xy"], 3)) for r in rows} <= {(0.438, 0.188), (0.438, 0.312), (0.562, 0.188), (0.562, 0.312)}
    assert {r["source"] for r in rows} == {"predicted"}
    bad = PredictedGaze(PredictedGazeConfig(function=f"{__name__}:no_map", frames=3, side=32))
    with pytest.raises(AnnotatorError, match="must return maps"):
        bad.run(batch)


def test_the_weights_of_priors_are_those_of_the_truth() -> None:
    """Points drawn from a product of two maps to known powers: maximum likelihood finds the powers."""
    rng = np.random.default_rng(0)
    first, second = np.broadcast_to(fit_centre(rng.normal(0.5, 0.15, (500, 2))).map((16, 16)), (4000, 16, 16)), heat(rng.uniform(0.3, 0.7, (4000, 2)), (16, 16), 0.2)  # fmt: skip
    parts = np.stack([first, second])
    truth = added(parts, np.array([0.5, 1.5]))
    cells = (truth.reshape(4000, -1).cumsum(1) < rng.random((4000, 1))).sum(1)
    xy = np.stack([(cells % 16 + 0.5) / 16, (cells // 16 + 0.5) / 16], 1)
    assert fit_weights(parts, xy) == pytest.approx([0.5, 1.5], abs=0.12)
    assert mean_map(xy, (16, 16)).sum() == pytest.approx(1.0, abs=1e-5)


def test_what_a_row_says_is_read_off_its_map() -> None:
    made = heat(np.array([[0.3, 0.6], [0.5, 0.5]]), (32, 32), 0.05)
    peak, spread, sure = told(made)
    assert np.abs(peak - [[0.3, 0.6], [0.5, 0.5]]).max() <= 0.5 / 32 + 1e-6
    assert spread == pytest.approx([0.05, 0.05], rel=0.05)
    assert sure == pytest.approx(1 - np.exp(-(0.1**2) / (2 * 0.05**2)), abs=0.04)  # a Rayleigh distribution within two deviations


def test_windows_are_even_in_time_and_begin_with_the_first_picture() -> None:
    clip = wearer((0,), 15, Ego(fps=15, seconds=3.0)).clips["scene"][0]
    window = windows_of(clip, 3, 5.0)
    assert window[0].tolist() == [0, 0, 0]
    assert window[10].tolist() == [4, 7, 10]


def test_files_and_settings_that_make_no_sense_are_refused(weights: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    assert read_spec(weights) == SPEC
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, str(other))
    for settings, words in (
        ({"weights": str(other)}, "no gaze model"), ({"weights": str(tmp_path / "absent")}, "do not exist"),
        ({"function": "nowhere:nothing"}, "names no function"), ({"weights": "a", "function": "b"}, "name one"), ({"frames": 0}, "frames"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            PredictedGaze.from_settings(settings)
    wrong: tuple[dict[str, Any], ...] = (
        {"side": 40},
        {"dim": 30, "heads": 4},
        {"steps": 0},
        {"labels": "both"},
        {"least_crop": 0.0},
    )
    for bad in wrong:
        with pytest.raises(UsageError):
            GazeNetSpec(**bad)
    with pytest.raises(UsageError, match="no labelled pictures"):
        joined([])
    contract = Contract("bare", "human", "person", 5.0)
    assert PredictedGaze().requires(contract) == ()
