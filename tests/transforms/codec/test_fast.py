import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct, idct

from schemas.errors import UsageError
from transforms.codec import bpe, fast
from transforms.codec.base import Tokens
from transforms.codec.bpe import Vocabulary
from transforms.codec.fast import FastCodec, coefficients

H, A = 20, 7


def smooth(count: int, seed: int, horizon: int = H, dims: int = A) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, horizon)[None, :, None]
    shape = (count, 1, dims)
    waves = (
        rng.normal(size=shape) * np.sin(2 * np.pi * rng.uniform(0.05, 1.2, shape) * t + rng.uniform(0, 6.3, shape))
        for _ in range(3)
    )
    x = sum(waves, np.zeros((count, horizon, dims)))
    return x / np.abs(x).max(1, keepdims=True)


@pytest.fixture(scope="module")
def codec() -> FastCodec:
    return FastCodec(H, A, 10.0, fast.learn([coefficients(smooth(800, 0), 10.0)], 512))


def test_coefficients_are_scipys() -> None:
    x = smooth(50, 1)
    assert np.array_equal(coefficients(x, 10.0), np.rint(dct(x, axis=1, norm="ortho") * 10).astype(int).reshape(50, -1))


def test_what_is_decoded_is_the_inverse_of_the_rounded_transform(codec: FastCodec) -> None:
    x = smooth(300, 2)
    tokens = codec.encode(x)
    got, ok = codec.decode(tokens)
    want = idct(np.rint(dct(x, axis=1, norm="ortho") * 10) / 10, axis=1, norm="ortho")
    assert ok.all()
    assert np.abs(got - want).max() < 1e-12
    assert codec.bound.holds(x, got).all()
    assert tokens.counts.mean() < H * A / 3


def test_the_declared_bound_holds_for_any_numbers(codec: FastCodec) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [rng.uniform(-1, 1, (100, H, A)), rng.normal(0, 50, (20, H, A)), np.zeros((1, H, A)), np.full((1, H, A), -8.0)]
    )
    got, ok = codec.decode(codec.encode(x))
    assert ok.all()
    assert codec.bound.holds(x, got).all()
    spread = codec.bound.errors(x[:100], got[:100])
    assert spread.max() > 0.5 * codec.bound.value  # the expected length is 1/sqrt(3) of it
    coarse = FastCodec(H, A, 5.0, codec.vocabulary)
    assert not codec.bound.holds(x[:100], coarse.decode(coarse.encode(x[:100]))[0]).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-3, 3), min_size=H * A, max_size=H * A))
def test_any_integers_come_back(codec: FastCodec, values: list[int]) -> None:
    row = np.array([values], np.int64)
    back, ok = codec.decode_integers(codec.encode_integers(row))
    assert ok.all()
    assert np.array_equal(back, row)


def test_merges_do_what_byte_pair_encoding_does(codec: FastCodec) -> None:
    """Against a textbook loop: join the pair with the lowest rank, everywhere, until none is left."""
    words, ranks = codec.vocabulary.spellings, {pair: r for r, pair in enumerate(codec.vocabulary.merges)}
    ids = {w: i for i, w in enumerate(words)}
    for whole in coefficients(smooth(20, 4), 10.0):
        row = np.clip(np.trim_zeros(whole, "b"), codec.vocabulary.low, codec.vocabulary.high)
        plain = (row - codec.vocabulary.low).tolist()
        while len(plain) > 1:
            best = min(pairwise(plain), key=lambda p: ranks.get(p, 1 << 30))
            if best not in ranks:
                break
            joined, at = list[int](), 0
            while at < len(plain):
                pair = tuple(plain[at : at + 2])
                joined.append(ids[words[pair[0]] + words[pair[1]]] if pair == best else plain[at])
                at += 2 if pair == best else 1
            plain = joined
        text = codec.vocabulary.spell(row)
        assert codec.vocabulary.encode(text, [(0, len(text))])[0] == plain
        assert np.array_equal(codec.vocabulary.expand(plain), row)


def test_a_stream_that_cannot_be_read_is_never_zeros(codec: FastCodec) -> None:
    x = smooth(1, 5) + 0.3
    good = codec.encode(x)[0].tolist()
    assert good[-1] == codec.end
    far = codec.encode(x + 1e4)[0].tolist()
    bad = [
        good[:-1], good[: len(good) // 2], [], [*good, codec.end], [codec.end, *good], [codec.size], good[:-1] + [0] * (H * A),
        far[: far.index(codec.escape) + 2], [codec.escape] + [codec.size - 1] * codec.digits + [codec.end],
    ]  # fmt: skip
    got, ok = codec.decode(Tokens.of([good, far, *bad]))
    assert ok.tolist() == [True, True] + [False] * len(bad)
    assert np.isnan(got[2:]).all()


def test_the_header_is_explicit_and_travels(codec: FastCodec) -> None:
    twin = FastCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert twin == codec
    assert set(codec.to_dict()) == {"horizon", "dims", "scale", "vocabulary"}
    x = smooth(3, 6)
    codec.encode(x)
    assert np.array_equal(pickle.loads(pickle.dumps(codec)).encode(x).ids, twin.encode(x).ids)
    assert codec.size == codec.vocabulary.size + 2


def test_training_is_deterministic_and_keeps_to_its_size() -> None:
    rows = [coefficients(smooth(200, 7), 10.0), coefficients(smooth(100, 8, 10, 3), 10.0)]
    one, two = fast.learn(rows, 300), fast.learn(rows, 300)
    assert one == two
    assert one.size <= 300
    assert one.fingerprint() != fast.learn(rows, 299).fingerprint()
    assert one.high >= max(r.max() for r in rows)


def test_bad_headers_are_refused() -> None:
    plain = Vocabulary(-1, 1)
    for make in (
        lambda: FastCodec(0, 7, 10.0, plain), lambda: FastCodec(10, 7, float("nan"), plain), lambda: Vocabulary(0, 0),
        lambda: Vocabulary(0, 1, ((0, 2),)), lambda: bpe.train([np.array([0, 1])], -50, 50, 100), lambda: fast.learn([], 100),
        lambda: coefficients(np.full((1, 4, 1), 1e12), 10.0),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            make()


# --- what the public processor does on the same traps --------------------------------------------------------------------


class PublicProcessor:
    """The algorithm of the public FAST processor, written from its description: clamp below, remember shapes, zeros on error."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.low, self.shape = vocabulary, vocabulary.low, (0, 0)

    def encode(self, chunk: np.ndarray) -> list[int]:
        self.shape = chunk.shape
        symbols = np.maximum(np.rint(dct(chunk, axis=0, norm="ortho") * 10).astype(int).reshape(-1), self.low)
        text = self.vocabulary.spell(symbols)
        return self.vocabulary.encode(text, [(0, len(text))])[0]

    def decode(self, ids: list[int]) -> np.ndarray:
        try:
            found = self.vocabulary.expand(ids).reshape(self.shape)
        except (ValueError, IndexError):
            found = np.zeros(self.shape)
        return idct(found / 10, axis=0, norm="ortho")


def test_ours_has_none_of_the_public_processors_traps(codec: FastCodec) -> None:
    public, x = PublicProcessor(codec.vocabulary), smooth(1, 9)
    # values below the alphabet are clamped silently; ours escapes them
    low = x - 30.0
    assert np.abs(public.decode(public.encode(low[0])) - low[0]).max() > 1
    assert codec.bound.holds(low, codec.decode(codec.encode(low))[0]).all()
    # a cut-off stream decodes to zeros without a word; ours says that it cannot be read
    assert (public.decode(public.encode(x[0])[:-1]) == 0).all()
    got, ok = codec.decode(Tokens.of([codec.encode(x)[0][:-1]]))
    assert not ok[0]
    assert np.isnan(got).all()
    # the shape of the last call decides how a stream is read; ours is in the header
    ids = public.encode(x[0])
    public.encode(smooth(1, 9, 7, 20)[0])
    assert public.decode(ids).shape == (7, 20)
    assert codec.decode(codec.encode(x))[0].shape == (1, H, A)
