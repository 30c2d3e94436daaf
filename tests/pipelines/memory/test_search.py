"""Exact search against brute force, ties and the block boundary included; the index against exact search."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.memory import codes as codes_module
from pipelines.memory import search
from pipelines.memory.codes import Codes, encode
from pipelines.memory.index import build_index
from pipelines.memory.search import nearest
from schemas.errors import UsageError


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def brute(keys: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every inner product in float64, best first, ties by row."""
    rows, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf)
    for q, query in enumerate(queries):
        exact = [float(np.sum(key.astype(np.float64) * query.astype(np.float64))) for key in keys]
        order = sorted(range(len(keys)), key=lambda i: (-exact[i], i))[:k]
        rows[q, : len(order)], scores[q, : len(order)] = order, [exact[i] for i in order]
    return rows, scores


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 150), st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3), st.booleans())
def test_search_equals_brute_force(seed, count, width, k, scale, coarse):
    rng = np.random.default_rng(seed)
    keys = (rng.normal(size=(count, width)) * scale).astype(np.float16)
    if coarse:
        keys = np.round(keys / scale).astype(np.float16)  # many ties
    queries = rng.normal(size=(3, width)).astype(np.float32)
    rows, scores = brute(keys, queries, k)
    for codes in (None, encode(keys)):
        found = nearest(keys, queries, k, codes=codes)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.scores, scores)


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(500, 16)).astype(np.float16)
    keys[400] = keys[3]  # a tie across blocks
    queries = np.concatenate([keys[3:4].astype(np.float32), rng.normal(size=(4, 16)).astype(np.float32)])
    whole = nearest(keys, queries, 7)
    monkeypatch.setattr(search, "BLOCK", 96)
    monkeypatch.setattr(codes_module, "BLOCK", 96)
    monkeypatch.setattr(search, "QUESTIONS", 2)
    monkeypatch.setattr(search, "PENDING", 1)
    for codes in (None, encode(keys)):
        np.testing.assert_array_equal(whole.rows, nearest(keys, queries, 7, codes=codes).rows)
    assert whole.rows[0, :2].tolist() == [3, 400]


def test_rows_that_nearly_tie_in_low_precision_come_in_their_true_order():
    base = np.zeros((200, 8), np.float16)
    base[:, 0] = 1
    base[:, 1] = np.arange(200)[::-1] * 2.0**-24  # smaller than float16 can tell apart in a sum with 1
    query = np.ones((1, 8), np.float32)
    np.testing.assert_array_equal(nearest(base, query, 5).rows[0], np.arange(5))


@pytest.mark.parametrize(("queries", "k"), [(np.zeros((1, 3)), 1), (np.full((1, 4), np.nan), 1), (np.zeros((1, 4)), 0)])
def test_bad_queries_are_refused(queries, k):
    with pytest.raises(UsageError):
        nearest(np.zeros((5, 4), np.float16), queries.astype(np.float32), k)


def test_the_index_finds_almost_all_and_scores_exactly():
    pytest.importorskip("faiss", reason="faiss is not installed")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 16))
    keys = (centres[rng.integers(0, 20, 3000)] + 0.2 * rng.normal(size=(3000, 16))).astype(np.float16)
    queries = (centres[:8] + 0.2 * rng.normal(size=(8, 16))).astype(np.float32)
    exact, near = nearest(keys, queries, 10), build_index(keys, lists=20).ask(queries, 10, probes=8)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.rows, near.rows, strict=True)])
    assert recall > 0.9
    known = {(q, r): s for q in range(8) for r, s in zip(exact.rows[q], exact.scores[q], strict=True)}
    assert all(known[q, r] == s for q in range(8) for r, s in zip(near.rows[q], near.scores[q], strict=True) if (q, r) in known)


def _encoded(keys: np.ndarray) -> Codes:
    found = encode(keys)
    if found is None:
        pytest.skip("this processor has no instructions for whole numbers of 8 bits")
    return found


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 90), st.floats(1e-3, 1e3))
def test_scores_of_codes_are_no_further_off_than_they_say(seed, width, scale):
    rng = np.random.default_rng(seed)
    keys = (rng.normal(size=(70, width)) * scale).astype(np.float16)
    keys[3] = 0
    queries = np.concatenate([rng.normal(size=(2, width)), np.zeros((1, width)), 1e30 * rng.normal(size=(1, width))]).astype(
        np.float32
    )
    off, blocks = _encoded(keys).scores(queries)
    ((start, scores),) = blocks
    assert (start, scores.shape) == (0, (4, 70))
    unit = np.abs(queries.astype(np.float64)).max(axis=1, keepdims=True) / codes_module.TOP
    exact = queries.astype(np.float64) / np.where(unit > 0, unit, 1) @ keys.astype(np.float64).T
    assert (np.abs(scores.numpy() - exact) <= off[:, None]).all()


def test_a_search_that_trusts_its_codes_loses_the_nearest():
    """The adversarial twin: without room for what codes leave out, rounding decides."""
    keys = np.zeros((300, 3), np.float16)
    keys[:, 0], keys[:, 1] = 100, 0.41  # a code is 0.79 wide here: 0.41 rounds up,
    keys[7, 1:] = 0.39  # and twice 0.39 rounds away
    query = np.array([[0, 1, 1]], np.float32)
    honest = _encoded(keys)
    assert nearest(keys, query, 1, codes=honest).rows.tolist() == [[7]] == brute(keys, query, 1)[0].tolist()
    assert nearest(keys, query, 1, codes=replace(honest, rest=0.0, longest=0.0)).rows.tolist() == [[0]]


def test_without_the_instructions_nothing_is_encoded(monkeypatch):
    codes_module.supported.cache_clear()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    try:
        assert encode(np.ones((4, 8), np.float16)) is None
    finally:
        codes_module.supported.cache_clear()
