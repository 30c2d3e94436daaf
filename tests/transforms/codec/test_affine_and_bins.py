import json

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.codec.action import ActionCodec
from transforms.codec.affine import Affine
from transforms.codec.base import Tokens
from transforms.codec.bins import BinCodec, from_vocabulary, to_vocabulary
from transforms.quantiles import Sketch


@pytest.fixture(scope="module")
def actions() -> np.ndarray:
    """5 000 rows: heavy tails, a millimetre scale, a constant, a two-valued gripper, a dimension that is 0 but for a few rows."""
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(5000) < 0.002, rng.normal(size=5000), 0.0)
    return np.stack(
        [rng.standard_t(3, 5000), rng.normal(0.0, 1e-3, 5000), np.full(5000, 7.5), np.where(rng.random(5000) < 0.3, 0.0, 1.0), rare], 1
    )  # fmt: skip


def test_ranges_are_the_true_quantiles(actions: np.ndarray) -> None:
    affine = Affine.fit(Sketch.of(actions))
    for d in (0, 1):
        exact = np.quantile(actions[:, d], [0.01, 0.99], method="lower")
        assert np.abs(np.array([affine.low[d], affine.high[d]]) / exact - 1).max() < 1 / 500
    assert affine.constant.tolist() == [False, False, True, False, True]
    assert affine.binary == (False, False, False, True, False)
    assert (affine.low[3], affine.high[3]) == (0.0, 1.0)


def test_a_joint_that_hardly_moves_keeps_its_range() -> None:
    """At 1.5 rad the sketch knows quantiles to 3 mrad, which would be all of this motion."""
    x = 1.5 + 0.002 * np.sin(np.linspace(0, 20, 3000))[:, None]
    affine = Affine.fit(Sketch.of(x))
    assert (affine.low, affine.high) == ((x.min(),), (x.max(),))
    assert affine.binary == (False,)


def test_what_lies_in_range_comes_back_and_what_does_not_is_counted(actions: np.ndarray) -> None:
    affine = Affine.fit(Sketch.of(actions))
    inside = ~affine.outside(actions)
    assert 0.97 < inside[:, 0].mean() < 0.99
    assert inside[:, 3].all()
    back = affine.decode(affine.encode(actions, clip=True))
    assert np.abs(back - actions)[inside].max() < 1e-12
    assert (affine.encode(actions, clip=True)[:, 0].min(), affine.encode(actions, clip=False)[:, 0].min()) < (-0.99, -1.0)
    assert not np.isfinite(affine.decode(affine.encode(np.full((1, 5), np.nan), clip=True))[0, 0])


def test_merged_statistics_give_the_same_ranges(actions: np.ndarray) -> None:
    halves = Sketch.of(actions[3000:]).merge(Sketch.of(actions[:3000]))
    assert Affine.fit(halves) == Affine.fit(Sketch.of(actions))
    assert Affine.fit(halves).fingerprint() == Affine.fit(Sketch.of(actions)).fingerprint()


def test_ranges_that_cannot_be_inverted_are_refused() -> None:
    for low, high in (((1.0,), (0.0,)), ((0.0,), (float("nan"),)), ((0.0,), (1.0, 2.0))):
        with pytest.raises(UsageError):
            Affine(low, high)
    with pytest.raises(UsageError, match="dimension 1"):
        Affine.fit(Sketch.of(np.array([[0.0, np.nan], [1.0, np.nan]])))


def openvla(action: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """What OpenVLA's tokenizer does, written from its description: 256 edges, digitize, words from the end, centres of 255 bins."""
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    words = vocabulary - np.digitize(np.clip(action, -1, 1), edges)
    return words, centres[np.clip(vocabulary - words - 1, 0, len(centres) - 1)]


def test_bins_are_those_of_openvla() -> None:
    y = np.concatenate([np.random.default_rng(1).uniform(-1, 1, 4020), np.linspace(-1, 1, 256), [-1, 1] * 7]).reshape(-1, 1, 6)
    codec = BinCodec(1, 6)
    tokens = codec.encode(y)
    words, values = openvla(y, 32000)
    assert np.array_equal(to_vocabulary(tokens.ids, 32000), words.reshape(-1))
    got, ok = codec.decode(tokens)
    assert ok.all()
    assert np.allclose(got, values, atol=0)
    assert np.array_equal(from_vocabulary(to_vocabulary(tokens.ids, 32000), 32000), tokens.ids)
    assert codec.bound.holds(y, got).all()
    assert np.abs(y - got).max() > 0.99 * codec.bound.value  # the bound is tight


def test_a_chunk_that_cannot_be_read_is_no_number() -> None:
    codec = BinCodec(2, 2)
    good = codec.encode(np.zeros((1, 2, 2)))[0]
    got, ok = codec.decode(Tokens.of([good, good[:3], [*good[:3], 256], []]))
    assert ok.tolist() == [True, False, False, False]
    assert np.isnan(got[1:]).all()
    with pytest.raises(UsageError, match="not action words"):
        from_vocabulary(np.array([32000]), 32000)


def test_the_bound_fails_for_a_codec_with_fewer_bins_than_it_says(actions: np.ndarray) -> None:
    honest, coarse = BinCodec(1, 5), BinCodec(1, 5, edges=200)
    y = Affine.fit(Sketch.of(actions)).encode(actions, clip=True)[:, None]
    assert honest.bound.holds(y, honest.decode(honest.encode(y))[0]).all()
    assert not honest.bound.holds(y, coarse.decode(coarse.encode(y))[0]).all()


def test_a_whole_codec_is_rebuilt_from_its_json(actions: np.ndarray) -> None:
    codec = ActionCodec(Affine.fit(Sketch.of(actions)), BinCodec(10, 5))
    twin = ActionCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert twin == codec
    assert twin.fingerprint() == codec.fingerprint()
    assert codec.stages == ("affine", "clip", "digitize")
    chunks = actions.reshape(-1, 10, 5)
    coded = codec.encode(chunks)
    assert coded.ok.all()
    assert np.array_equal(twin.decode(coded.tokens)[0], coded.decoded)
    width = codec.affine.half_width
    inside = ~codec.affine.outside(chunks)
    assert (np.abs(coded.decoded - chunks) <= width / 255 * (1 + 1e-9) + 1e-12)[inside].all()
    assert coded.saturated.mean() == pytest.approx((~inside).mean())
    for change in ({"scheme": "morse"}, {"stages": ["affine", "digitize"]}):
        with pytest.raises(UsageError):
            ActionCodec.from_dict(codec.to_dict() | change)
