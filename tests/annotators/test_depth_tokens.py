from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from annotators.base import Batch
from annotators.check import check_output
from annotators.clips import Clip
from annotators.depth import model as codes
from annotators.depth.depth_tokens import DepthTokens, DepthTokensConfig
from annotators.depth.frames import FAR, NEAR, as_model_input, errors, to_log, to_metres
from annotators.depth.model import DepthCodesSpec
from schemas.contract import Camera
from schemas.errors import UsageError
from schemas.shards import steps_schema
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import make_trajectory, sample

SPEC = DepthCodesSpec(codes=64, width=16, steps=200, batch=8, rate=4e-3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def picture(t: float, seed: int) -> np.ndarray:
    """A table that slopes away and a box that moves over it, millimetres uint16[60, 60]; a strip is not measured."""
    rng = np.random.default_rng(seed)
    base = np.tile(np.linspace(1200 + 2500 * rng.random(), 700 + 300 * rng.random(), 60)[:, None], (1, 60))
    x, y = (17 + 17 * np.sin(t + seed), 17 + 14 * np.cos(1.3 * t + seed))
    base[int(y) : int(y) + 24, int(x) : int(x) + 24] = 400
    base[:3] = 0
    return base.astype(np.uint16)


@lru_cache
def scene(hz: int, seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5), unit: float | None = 0.001) -> Batch:
    plain = sample([make_trajectory(s, 4.0) for s in seeds], hz)
    camera = Camera("depth.front", role="depth", width=60, height=60, depth_unit_m=unit)
    contract = replace(plain.contract, cameras=(camera,))
    clips = []
    for at, seed in enumerate(seeds):
        t_ns = plain.t_ns[plain.starts[at] : plain.starts[at + 1]]
        steps = np.arange(0, len(t_ns), hz // 5)
        seen = np.full(len(t_ns), -1)
        seen[steps] = np.arange(len(steps))
        pictures = np.stack([picture(t_ns[s] * 1e-9, seed) for s in steps])
        clips.append(Clip(pictures, t_ns[steps], steps, seen, (60, 60)))
    schema = steps_schema(contract)
    have = plain.steps
    values = [have.column(f.name) if f.name in have.column_names else pa.array(np.zeros(have.num_rows, np.int32)) for f in schema]
    return Batch(contract, pa.table(values, schema=schema), {"depth.front": tuple(clips)})


@lru_cache
def trained() -> Any:
    torch.set_num_threads(1)
    pictures = np.concatenate([c.pictures for c in scene(20, tuple(range(10, 18))).clips["depth.front"]])
    metres, given = as_model_input(pictures, 0.001)
    return codes.train(given, (metres >= NEAR) & (metres <= FAR), SPEC)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("codes") / "codes.safetensors"
    codes.save(trained(), SPEC, path)
    return str(path)


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self, weights: str) -> Any:
        return DepthTokens(DepthTokensConfig(weights))

    @pytest.fixture
    def changed(self, weights: str) -> Any:
        return DepthTokens(DepthTokensConfig(weights, hz=2.0))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: scene(hz) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = scene(20)
        first, *others = whole.clips["depth.front"]
        blind = replace(first, pictures=np.zeros_like(first.pictures))
        return replace(whole, clips={"depth.front": (blind, *others)})


def test_codes_decode_better_than_any_mean_and_are_used(weights: str) -> None:
    reports = {r.metric: r for r in DepthTokens(DepthTokensConfig(weights)).evaluate(scene(20))}
    assert {m: r.gate for m, r in reports.items()} == dict.fromkeys(reports, "pass")
    assert reports["depth_abs_rel"].value < 0.5 * reports["depth_abs_rel"].baselines["mean_depth"]
    assert reports["depth_within_125"].value > 0.5


def test_codes_of_noise_fail_the_gates(weights: str, tmp_path: Path) -> None:
    """The adversarial twin: an untrained model, saved as if it were one."""
    path = tmp_path / "untrained.safetensors"
    codes.save(codes.build(SPEC), SPEC, path)
    reports = {r.metric: r for r in DepthTokens(DepthTokensConfig(str(path))).evaluate(scene(20))}
    assert reports["depth_abs_rel"].gate == "fail"
    assert reports["depth_within_125"].gate == "fail"


def test_tokens_alone_give_the_depth_back(weights: str) -> None:
    batch, annotator = scene(20), DepthTokens(DepthTokensConfig(weights))
    row = next(r for r in check_output(annotator, batch, annotator.run(batch)).to_pylist() if r["valid"])
    model = codes.load(weights)
    with torch.inference_mode():
        found = to_metres(model.decode(model.book[torch.tensor(row["depth_tok"]).long()], 1)[0, 0].numpy())
    metres, _ = as_model_input(batch.clips["depth.front"][0].pictures[:1], 0.001)
    use = np.isfinite(metres[0]) & (metres[0] <= FAR)
    assert np.sqrt(((found - metres[0])[use] ** 2).mean()) == pytest.approx(row["depth_rmse"], rel=1e-3)
    assert (len(row["depth_tok"]), row["end_step"] - row["start_step"]) == (100, 4)


def test_depth_is_refused_where_nothing_is_known_about_it(weights: str) -> None:
    for batch, annotator, reason in (
        (scene(20, unit=None), DepthTokens(DepthTokensConfig(weights)), "no_depth_unit"),
        (scene(20), DepthTokens(), "no_weights"),
        (scene(20), DepthTokens(DepthTokensConfig(weights, camera="depth.wrist")), "no_depth_camera"),
    ):
        rows = check_output(annotator, batch, annotator.run(batch)).to_pylist()
        assert {r["reason"] for r in rows} == {reason}
        assert {r.gate for r in annotator.evaluate(batch)} == {"not-measurable"}


def test_the_logarithm_is_undone_and_errors_are_those_of_the_definition() -> None:
    metres = np.random.default_rng(0).uniform(NEAR, FAR, (2, 8, 8)).astype(np.float32)
    assert np.abs(to_metres(to_log(metres)) - metres).max() < 1e-4
    assert to_log(np.array([NEAR, FAR], np.float32)).tolist() == [0.0, 1.0]
    found = metres * 1.2
    hole = metres.copy()
    hole[0, 0, 0], hole[1] = np.nan, 9.0
    rmse, relative, near = errors(hole, found)
    keep = np.isfinite(hole[0])
    assert rmse[0] == pytest.approx(np.sqrt(((found - metres)[0][keep] ** 2).mean()), rel=1e-5)
    assert (relative[0], near[0]) == (pytest.approx(0.2, rel=1e-4), 1.0)
    assert np.isnan(rmse[1])


def test_files_that_are_no_codes_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, str(other))
    with pytest.raises(UsageError, match="no depth codes"):
        DepthTokens.from_settings({"weights": str(other)})
    with pytest.raises(UsageError, match="do not exist"):
        DepthTokens.from_settings({"weights": str(tmp_path / "absent.safetensors")})
    for bad in ({"codes": 1}, {"width": 1}):
        with pytest.raises(UsageError):
            DepthCodesSpec(**bad)
    with pytest.raises(UsageError, match="no depth picture"):
        codes.train(np.empty((0, 80, 80), np.float32), np.empty((0, 80, 80), bool), SPEC)


def test_training_is_the_same_every_time() -> None:
    pictures, metres = np.random.default_rng(0).random((4, 80, 80)).astype(np.float32), np.ones((4, 80, 80), bool)
    spec = replace(SPEC, steps=3)
    one, two = (codes.train(pictures, metres, spec).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
