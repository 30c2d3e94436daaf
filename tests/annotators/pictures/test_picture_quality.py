"""Picture quality: what is measured against closed forms, gates with adversarial twins, and the annotator contract."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import annotators.pictures.picture_quality as module
from annotators.base import Batch
from annotators.clips import Clip, Needs, needs_of, no_clip
from annotators.pictures.measures import Measured, measure
from annotators.pictures.picture_quality import PictureQuality, PictureQualityConfig
from pipelines.shards.draft import build_steps
from schemas.contract import Camera, Contract
from schemas.shards import steps_schema
from tests.contracts.annotator import AnnotatorContract

SECOND = 1_000_000_000
SECONDS, SIDE = 3.0, 48
STILL = (1.0, 2.0)  # the scene stands still in between


@lru_cache
def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 40, (SIDE, SIDE * 2), dtype=np.uint8)


def picture(t: float, seed: int) -> np.ndarray:
    """Fine texture that drifts to the right under light that comes and goes, except while everything stands still."""
    moved = 12 * (min(t, STILL[0]) + max(t - STILL[1], 0.0))
    light = np.linspace(0, 100 * (1 + np.sin(moved)), SIDE).astype(np.uint8)
    return np.repeat((np.roll(texture(seed), round(moved), axis=1)[:, :SIDE] + light)[:, :, None], 3, axis=2)


@lru_cache
def film(hz: float, seeds: tuple[int, ...] = (1, 2, 3), cameras: tuple[str, ...] = ("front", "wrist")) -> Batch:
    """The same scenes, filmed at `hz`."""
    contract = Contract("film", "human", "none", hz, cameras=tuple(Camera(c, width=SIDE, height=SIDE) for c in cameras))
    t_ns = np.rint(np.arange(round(SECONDS * hz) + 1) * SECOND / hz).astype(np.int64)
    number = np.arange(len(t_ns))
    tables, clips = [], {c: [] for c in cameras}
    for place, seed in enumerate(seeds):
        steps = build_steps(contract, t_ns, {}, frames={c: number.astype(np.int32) for c in cameras})
        names = pa.DictionaryArray.from_arrays(
            pa.array(np.full(len(t_ns), place, np.int32)), pa.array([f"ep-{s}" for s in seeds])
        )
        tables.append(steps.add_column(0, pa.field("episode_id", names.type, nullable=False), names))
        for shift, camera in enumerate(cameras):
            pictures = np.stack([picture(t / SECOND, 10 * seed + shift) for t in t_ns])
            clips[camera].append(Clip(pictures, t_ns, number, number, (SIDE, SIDE)))
    steps = pa.concat_tables(tables).cast(steps_schema(contract).remove_metadata())
    return Batch(contract, steps, {c: tuple(have) for c, have in clips.items()})


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return PictureQuality()

    @pytest.fixture
    def changed(self) -> Any:
        return PictureQuality(PictureQualityConfig(side=64))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: film(hz) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[10].take([0, 1])
        clips = {c: (no_clip(len(have[0].seen)), have[1]) for c, have in batch.clips.items()}
        return replace(batch, clips=clips)


def test_measurements_have_closed_forms() -> None:
    t_ns = np.arange(5) * SECOND // 10
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    images = [np.full((32, 32), 51, np.uint8), np.full((32, 32), 102, np.uint8), board, board, 255 - board]
    clip = Clip(np.stack(images)[..., None].repeat(3, -1), t_ns, np.arange(5), np.arange(5), (32, 32))
    found = PictureQuality(PictureQualityConfig(change_s=0.1)).measure(clip)
    assert found.luminance == pytest.approx([0.2, 0.4, 0.5, 0.5, 0.5])
    assert found.sharpness == pytest.approx([0, 0, 16, 16, 16])  # the Laplacian of a 0/1 chessboard is +-4 everywhere
    assert np.isnan(found.change[0])
    assert found.change[1:] == pytest.approx([2.0, (0.4 + 0.6) / 2 * 10, 0.0, 10.0], abs=1e-5)  # per second: ten times 0.2, ...
    assert found.frozen_s == pytest.approx([0, 0, 0, 0.1, 0])


def test_a_freeze_is_told_in_seconds_at_any_rate() -> None:
    for hz in (10, 25, 50):
        batch = film(hz, (1,), ("front",))
        rows = PictureQuality().run(batch)
        frozen = np.array(rows["frozen_s"])
        at = np.array(rows["start_ns"]) / SECOND
        assert frozen[(at > 1.2) & (at < 1.95)] == pytest.approx(at[(at > 1.2) & (at < 1.95)] - 1.0, abs=1.5 / hz + 0.05)
        assert frozen[at > 2.2].max() <= 0.2
    longest = PictureQuality(PictureQualityConfig(longest_s=0.5)).run(film(20, (1,), ("front",)))
    assert max(longest["frozen_s"].to_pylist()) == 0.5


def test_it_asks_for_colour_cameras_only() -> None:
    roles = {"front": "exterior", "depth": "depth", "mask": "segmentation"}
    contract = Contract("x", "sim", "arm", 10.0, cameras=tuple(Camera(n, role=r) for n, r in roles.items()))  # type: ignore[arg-type]
    assert PictureQuality().requires(contract) == ("rgb:front",)
    assert needs_of(PictureQuality(), contract).looks[0].size == (128, 128)
    assert needs_of(PictureQuality(PictureQualityConfig(cameras=("other",))), contract) == Needs(context_s=2.0)


def test_gates_pass_on_clear_pictures_and_say_what_was_measured() -> None:
    reports = {r.metric: r for r in PictureQuality().evaluate(film(20))}
    assert {m: r.gate for m, r in reports.items()} == {"blur_auc": "pass", "freeze_auc": "pass"}
    assert reports["blur_auc"].n_episodes == 3
    assert reports["blur_auc"].baselines.keys() == {"contrast", "luminance", "chance"}
    assert {r.gate for r in PictureQuality().evaluate(film(20).take([]))} == {"not-measurable"}


def test_a_covered_camera_is_left_out_and_counted() -> None:
    batch = film(20)
    black = tuple(replace(c, pictures=c.pictures * 0) for c in batch.clips["wrist"])
    reports = PictureQuality().evaluate(replace(batch, clips=batch.clips | {"wrist": black}))
    assert {(r.gate, r.detail["clips_left_out"]) for r in reports} == {("pass", 3)}


def test_gates_fail_measurements_of_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(clip: Clip, *settings: float) -> Measured:
        found = measure(clip, *settings)
        order = np.random.default_rng(int(clip.pictures.sum())).permutation(len(clip))
        return Measured(order.astype(np.float32), *(getattr(found, f)[order] for f in ("luminance", "change", "frozen_s")))

    monkeypatch.setattr(module, "measure", shuffled)
    assert {r.gate for r in PictureQuality().evaluate(film(20))} == {"fail"}
