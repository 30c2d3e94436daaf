"""The embedding annotator, its encoders, and the contract."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from annotators.base import Batch
from annotators.clips import Clip, no_clip
from annotators.embeddings.embedding import NOTHING, Embedding, EmbeddingConfig
from annotators.embeddings.encoders import GRAMS, Default, encoder_weights, open_encoder
from annotators.registry import open_annotator
from pipelines.shards.draft import build_steps
from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from schemas.shards import steps_schema
from tests.contracts.annotator import AnnotatorContract
from tests.support.embedding import Brightness, clip_checkpoint, dino_checkpoint
from transforms.embedding import SIZE

SECOND = 1_000_000_000
SECONDS, SIDE = 3.0, 32


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@lru_cache
def scene(seed: int) -> np.ndarray:
    return np.kron(np.random.default_rng(seed).integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@lru_cache
def film(hz: float, scenes: tuple[int, ...] = (1, 2, 3, 4), blind: tuple[int, ...] = ()) -> Batch:
    """Still scenes filmed at `hz`, a picture a second kept; two scenes share an instruction."""
    import pyarrow as pa

    contract = Contract("film", "human", "none", hz, cameras=(Camera("front", width=SIDE, height=SIDE),))
    tables, clips = [], []
    for at, seed in enumerate(scenes):
        count = round(SECONDS * hz)
        t = (np.arange(count) * SECOND / hz).astype(np.int64)
        text = None if at in blind else f"task {seed // 2}"
        steps = build_steps(contract, t, {}, language=text, frames={"front": np.arange(count, dtype=np.int32)})
        ids = pa.array([f"ep-{at}"] * count).dictionary_encode()
        tables.append(steps.add_column(0, steps_schema(contract).field("episode_id"), ids))
        kept = np.arange(0, count, round(hz))
        seen = np.searchsorted(kept, np.arange(count), side="right") - 1
        clips.append(
            no_clip(count) if at in blind else Clip(np.stack([scene(seed)] * len(kept)), t[kept], kept, seen, (SIDE, SIDE))
        )
    return Batch(contract, pa.concat_tables(tables).unify_dictionaries(), {"front": tuple(clips)})


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self):
        return Embedding()

    @pytest.fixture
    def changed(self):
        return Embedding(EmbeddingConfig(texts=False))

    @pytest.fixture
    def rates(self):
        return {5: film(5.0), 10: film(10.0)}

    @pytest.fixture
    def spoilt(self):
        return film(5.0, blind=(0,))


def test_pictures_and_instructions_have_a_vector_each():
    rows = Embedding().run(film(5.0)).to_pylist()
    assert [r["kind"] for r in rows if r["episode_id"] == "ep-0"].count("picture") == 3
    assert {len(r["vector"]) for r in rows if r["kind"] == "picture"} == {SIZE}
    assert {len(r["vector"]) for r in rows if r["kind"] == "text"} == {GRAMS}
    assert [r["said"] for r in rows if r["kind"] == "text"] == ["task 0", "task 1", "task 1", "task 2"]


def test_an_episode_without_either_says_so():
    rows = [r for r in Embedding().run(film(5.0, blind=(1,))).to_pylist() if r["episode_id"] == "ep-1"]
    assert [(r["valid"], r["reason"]) for r in rows] == [(False, NOTHING)]


def test_alike_texts_lie_close():
    vectors = Default().texts(["pick up the red cup", "pick up the red cups", "open the drawer"], "cpu")
    assert vectors[0] @ vectors[1] > 0.8 > 0.4 > vectors[0] @ vectors[2]


def test_the_gate_passes_scenes_and_fails_noise():
    alike = film(5.0, (2, 4, 2, 4, 2, 4))
    (good,) = Embedding().evaluate(alike)
    assert good.gate == "pass"
    assert good.value == 1
    noise = replace(alike, clips={"front": tuple(_noise(c, i) for i, c in enumerate(alike.clips["front"]))})
    (bad,) = Embedding().evaluate(noise)
    assert bad.gate == "fail"
    assert Embedding().evaluate(film(5.0, (2, 2)))[0].gate == "not-measurable"


def _noise(clip: Clip, seed: int) -> Clip:
    return replace(clip, pictures=np.random.default_rng(seed).integers(0, 255, clip.pictures.shape).astype(np.uint8))


def test_your_own_encoder_is_called_by_its_name():
    annotator = open_annotator("embedding", {"encoder": "tests.support.embedding:Brightness", "texts": "false"})
    rows = annotator.run(film(5.0)).to_pylist()
    assert rows[0]["vector"] == pytest.approx(Brightness().pictures(scene(1)[None], "cpu")[0].tolist())
    assert annotator.fingerprint() != Embedding().fingerprint()


@pytest.mark.parametrize("name", ["tests.support.embedding:nothing", "no.such:thing", "transformers:/nowhere"])
def test_an_encoder_that_is_none_is_refused(name):
    with pytest.raises(UsageError):
        open_encoder(name)


def test_a_contrastive_checkpoint_puts_both_in_one_space(tmp_path):
    folder = clip_checkpoint(tmp_path / "clip")
    encoder = open_encoder(f"transformers:{folder}")
    pictures, texts = encoder.pictures(np.stack([scene(1), scene(2)]), "cpu"), encoder.texts(["a cup", "a drawer"], "cpu")
    assert pictures.shape == texts.shape
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([pictures, texts]), axis=1), 1, rtol=1e-5)
    before = encoder_weights(f"transformers:{folder}")
    (folder / "note.txt").write_text("changed")
    assert encoder_weights(f"transformers:{folder}") != before


def test_a_checkpoint_of_pictures_reads_no_texts(tmp_path):
    encoder = open_encoder(f"transformers:{dino_checkpoint(tmp_path / 'dino')}")
    assert encoder.pictures(scene(1)[None], "cpu").shape[0] == 1
    with pytest.raises(UsageError, match="pictures only"):
        encoder.texts(["x"], "cpu")
