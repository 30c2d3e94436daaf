"""Macro latents of a small trained model: the annotator contract, runs against Viterbi done by hand, sequences, horizons, gates and twins."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from annotators.base import Annotator, Batch
from annotators.clips import no_clip
from annotators.latent.macro.book import code_book
from annotators.latent.macro.evaluation import _spread
from annotators.latent.macro.latent_macro import LatentMacro, LatentMacroConfig
from annotators.spans import span_table
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.moving_square import HZ, Pushes, pushes, square_batch, square_checkpoint
from transforms.macro_latents import distances, persistent

TINY = {"steps": 4, "batch": 16, "width": 4, "dim": 3, "derive": 6, "derive_levels": 1, "flow": 0.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return square_checkpoint(tmp_path_factory.mktemp("lam"), pushes(24, 4), **TINY)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two horizons, whose tokens choose codes."""
    settings: dict[str, Any] = {**TINY, "bottleneck": "vq", "tokens": 2, "codes": 5, "horizons_s": (0.2, 0.6)}
    return square_checkpoint(tmp_path_factory.mktemp("lam"), pushes(24, 4), **settings)


def macro(checkpoint: Path, **changes: Any) -> LatentMacro:
    return LatentMacro(LatentMacroConfig(str(checkpoint), hz=float(HZ), **changes))


class TestContract(AnnotatorContract):
    tolerance = 1e-3

    @pytest.fixture
    def annotator(self, checkpoint: Path) -> Any:
        return macro(checkpoint)

    @pytest.fixture
    def changed(self, checkpoint: Path) -> Any:
        return macro(checkpoint, penalty=0.5)

    @pytest.fixture
    def reweighted(self, several: Path) -> Any:
        return macro(several)

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: square_batch(pushes(4, 8), hz) for hz in (HZ, 4 * HZ)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[HZ].take([0, 1])
        first, second = batch.clips["front"]
        return replace(batch, clips={"front": (no_clip(len(first.seen)), second)})


def valid(annotator: Annotator, batch: Batch) -> list[dict[str, Any]]:
    return [r for r in annotator.run(batch).to_pylist() if r["valid"]]


def test_runs_are_viterbis_and_tile_what_is_seen(checkpoint: Path) -> None:
    batch, book = square_batch(pushes(1, 12)), code_book(str(checkpoint))
    assert book is not None
    own = macro(checkpoint, penalty=0.3)
    short = valid(own.short, batch)
    z = np.array([r["z"] for r in short], np.float32)
    path = persistent(distances(z, book.codes), np.array([0, len(z)]), 0.3 * book.unit)
    rows = valid(own, batch)
    assert [r["code"][0] for r in rows for _ in range(r["latents"])] == path.tolist()
    assert [r["t0_ns"] for r in rows[1:]] == [r["t1_ns"] for r in rows[:-1]]
    assert (rows[0]["t0_ns"], rows[-1]["t1_ns"]) == (short[0]["t0_ns"], short[-1]["t1_ns"])
    assert [r["start_step"] for r in rows[1:]] == [r["end_step"] for r in rows[:-1]]
    assert rows[0]["z"] == pytest.approx(z[: rows[0]["latents"]].mean(0), abs=1e-5)


def test_sequences_lay_latents_one_after_another(checkpoint: Path) -> None:
    batch = square_batch(pushes(1, 8))
    own = macro(checkpoint, kind="sequence", count=3)
    short, rows = valid(own.short, batch), own.run(batch).to_pylist()
    good = [r for r in rows if r["valid"]]
    assert len(good) == len(short) - 2
    assert good[1]["z"] == pytest.approx([x for r in short[1:4] for x in r["z"]], abs=1e-6)
    assert (good[1]["t1_ns"] - good[1]["t0_ns"], good[1]["horizon_s"]) == (600_000_000, pytest.approx(0.6))
    assert {r["reason"] for r in rows if not r["valid"]} == {"horizon_past_end"}


def test_horizons_stand_side_by_side_and_tokens_keep_their_codes(several: Path) -> None:
    batch, book = square_batch(pushes(1, 8)), code_book(str(several))
    assert book is not None
    own = macro(several, kind="horizons")
    short, good = valid(own.short, batch), valid(own, batch)
    assert len(good) == 8 - 3
    assert good[0]["z"] == pytest.approx(short[0]["z"] + short[1]["z"], abs=1e-6)
    assert good[0]["code"] == [c for r in short[:2] for c in r["code"]]
    assert {len(r["code"]) for r in valid(macro(several), batch)} == {2}


def test_without_codes_or_a_checkpoint_rows_say_so(tmp_path: Path) -> None:
    batch = square_batch(pushes(1, 6))
    bare = square_checkpoint(tmp_path / "bare", pushes(24, 4), **{**TINY, "derive": 0})
    assert {r["reason"] for r in macro(bare).run(batch).to_pylist()} == {"no_codes"}
    assert {r["reason"] for r in LatentMacro().run(batch).to_pylist()} == {"no_checkpoint"}
    with pytest.raises(UsageError, match="holds no"):
        LatentMacro.from_settings({"checkpoint": str(tmp_path / "nothing")})


def test_a_longer_penalty_makes_longer_runs_and_quality_says_how_long(checkpoint: Path) -> None:
    batch = square_batch(pushes(12, 10))
    count = [len(valid(macro(checkpoint, penalty=p), batch)) for p in (0.0, 0.5, 100.0)]
    assert count[0] >= count[1] >= count[2] == 12
    reports = {r.metric: r for r in macro(checkpoint, penalty=0.5).evaluate(batch)}
    assert reports["run_seconds"].baselines["nearest_code"] <= (reports["run_seconds"].value or 0.0)
    assert reports["run_seconds"].detail["penalty_wanted"] >= 0
    assert reports["action_spread_inside"].baselines.keys() == {"moved", "one_run"}


def test_runs_that_follow_the_push_pass_and_their_moved_twin_fails() -> None:
    film, blocks = pushes(10, 13), np.repeat([0, 1, 2], 4)
    rng = np.random.default_rng(0)
    push = rng.uniform(-1, 1, (10, 3, 2))[:, blocks]
    place = np.concatenate([np.full((10, 1, 2), 16.0), 16 + np.cumsum(push, 1)], 1)
    batch = square_batch(Pushes(film.pictures, place, push))

    def gate(shift: int) -> str:
        cuts = [0, 4, 8, 13] if not shift else [0, 2, 6, 10, 13]
        first = np.concatenate([batch.starts[e] + cuts[:-1] for e in range(10)])
        stop = np.concatenate([batch.starts[e] + cuts[1:] for e in range(10)])
        own = {f.name: [None] * len(first) for f in LatentMacro.provides}
        camera = ["front"] * len(first)
        columns = {n: pa.array(v, LatentMacro.provides.field(n).type) for n, v in own.items()}
        return _spread(
            batch,
            span_table(
                LatentMacro(), batch, first, stop, [None] * len(first), columns, camera=pa.array(camera).dictionary_encode()
            ),
        ).gate

    assert gate(0) == "pass"
    assert gate(2) == "fail"
