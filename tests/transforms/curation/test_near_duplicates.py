"""Sketches: Jaccard figures of the sheet (finding 8), bands against brute force, pictures against a plain alignment."""

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from tests.support.demos import minimum_jerk
from transforms.curation.lsh import equal_bands
from transforms.curation.shingles import jaccard, minhash, shingles
from transforms.curation.visual import BAND, KEYFRAMES, aligned_distance, band_signatures, contrast, is_same, keyframe_steps
from transforms.unionfind import components, shared_keys

DIMS = 7


def trajectory(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    count, parts = int(rng.integers(100, 400)), int(rng.integers(4, 9))
    places = rng.normal(size=(parts + 1, DIMS))
    cuts = np.linspace(0, count, parts + 1).astype(int)
    return np.concatenate(
        [p + minimum_jerk(b - a)[:, None] * (q - p) for a, b, p, q in zip(cuts, cuts[1:], places, places[1:], strict=False)]
    )


def copies(x: np.ndarray, seed: int) -> dict[str, tuple[np.ndarray, float]]:
    rng, count = np.random.default_rng(seed), len(x)
    still = np.repeat(x[:1], count // 20, 0), np.repeat(x[-1:], count // 20, 0)
    return {
        "half the rate": (x[::2], 10.0), "1 % noise": (x + rng.normal(size=x.shape) * 0.01, 20.0), "3 % trimmed": (x[int(0.03 * count) :], 20.0),
        "10 % trimmed": (x[int(0.1 * count) :], 20.0), "10 % idle": (np.concatenate([still[0], x, still[1]]), 20.0),
    }  # fmt: skip


@pytest.fixture(scope="module")
def known() -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    every = [trajectory(i) for i in range(150)]
    scale = np.concatenate(every).std(0)
    return every, scale, [shingles(x, scale, 20.0) for x in every]


def test_copies_share_most_shapes_and_strangers_almost_none(known) -> None:
    every, scale, sets = known
    shares = defaultdict(list)
    for i in range(60):
        for name, (copy, hz) in copies(every[i], i).items():
            shares[name].append(jaccard(sets[i], shingles(copy, scale, hz))[0])
    wanted = {
        "half the rate": (0.9, 0.8),
        "1 % noise": (0.88, 0.78),
        "3 % trimmed": (0.9, 0.78),
        "10 % trimmed": (0.78, 0.7),
        "10 % idle": (0.95, 0.88),
    }
    for name, (median, low) in wanted.items():
        assert np.median(shares[name]) >= median, name
        assert np.quantile(shares[name], 0.05) >= low, name
    strangers = [jaccard(sets[i], sets[i + 1])[0] for i in range(149)]
    assert max(strangers) <= 0.12
    assert jaccard(sets[0], np.zeros(0, np.uint32)) == (0.0, 0.0)


def test_a_piece_is_contained_in_the_whole(known) -> None:
    every, scale, sets = known
    share, contained = jaccard(sets[0], shingles(every[0][: len(every[0]) // 2], scale, 20.0))
    assert share < 0.6
    assert contained > 0.85


def test_minhash_estimates_jaccard_and_bands_find_copies(known) -> None:
    every, scale, sets = known
    originals = np.stack([minhash(s) for s in sets])
    trimmed = [shingles(copies(x, i)["10 % trimmed"][0], scale, 20.0) for i, x in enumerate(every[:60])]
    signatures = np.concatenate([originals, np.stack([minhash(s) for s in trimmed])])
    for i in range(60):
        estimate = (signatures[i] == signatures[150 + i]).mean()
        assert estimate == pytest.approx(jaccard(sets[i], trimmed[i])[0], abs=0.16)
    pairs = {tuple(p) for p in equal_bands(signatures, 32).tolist()}
    assert sum((i, 150 + i) in pairs for i in range(60)) == 60
    assert len(pairs) < 80  # strangers are hardly ever compared


def test_bands_by_sorting_are_bands_by_comparing() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (60, 12)).astype(np.uint32)
    wanted = {
        (i, j)
        for i, j in combinations(range(60), 2)
        if any((rows[i, b : b + 3] == rows[j, b : b + 3]).all() for b in range(0, 12, 3))
    }
    assert {tuple(p) for p in equal_bands(rows, 4).tolist()} == wanted


def test_a_crowd_is_connected_without_comparing_everyone() -> None:
    rows = np.concatenate([np.zeros((500, 4)), np.arange(80).reshape(20, 4) + 1]).astype(np.uint32)
    pairs = equal_bands(rows, 1)
    assert len(pairs) < 5 * 500
    root = components(520, [tuple(p) for p in pairs.tolist()])
    assert set(root[:500]) == {0}
    assert len(set(root[500:])) == 20


def plain_alignment(a: list[int], b: list[int]) -> float:
    """The textbook's dynamic programme, one pair at a time: least total distance, then the median along its path."""
    n = KEYFRAMES
    cost = [[(x ^ y).bit_count() for y in b] for x in a]
    best: dict[tuple[int, int], tuple[float, list[int]]] = {(0, 0): (cost[0][0], [cost[0][0]])}
    for i in range(n):
        for j in range(max(0, i - BAND), min(n, i + BAND + 1)):
            before = [best[p] for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in best]
            if before:
                total, path = min(before, key=lambda o: o[0])
                best[i, j] = (total + cost[i][j], [*path, cost[i][j]])
    return float(np.median(best[n - 1, n - 1][1]))


def test_pictures_are_aligned_as_the_textbook_does() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 1 << 63, (30, KEYFRAMES)).astype(np.uint64)
    b = np.roll(a, 1, 1)
    b[:10] = rng.integers(0, 1 << 63, (10, KEYFRAMES)).astype(np.uint64)
    distance = aligned_distance(a, b)
    assert distance.tolist() == [plain_alignment(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert distance[10:].max() == 0  # one keyframe late is no difference


def flipped(hashes: np.ndarray, share: float, seed: int) -> np.ndarray:
    bits = np.random.default_rng(seed).random((*hashes.shape, 64)) < share
    return hashes ^ (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(-1).astype(np.uint64)


def test_reencoded_pictures_are_candidates_and_a_fixed_camera_proves_nothing() -> None:
    rng = np.random.default_rng(2)
    lively = rng.integers(0, 1 << 63, (40, KEYFRAMES)).astype(np.uint64)
    again = flipped(lively, 0.04, 3)
    pairs = {tuple(p) for p in equal_bands(band_signatures(np.concatenate([lively, again])), 32).tolist()}
    assert sum((i, 40 + i) in pairs for i in range(40)) == 40
    assert is_same(aligned_distance(lively, again), contrast(lively), contrast(again)).all()
    scene = np.repeat(rng.integers(0, 1 << 63, (1, 1)).astype(np.uint64), KEYFRAMES, 1)
    one, other = flipped(scene, 0.04, 4), flipped(scene, 0.04, 5)
    distance = aligned_distance(one, other)
    assert distance[0] <= 8  # near, as every episode of this scene is
    assert not is_same(distance, contrast(one), contrast(other)).any()


def test_keyframes_without_motion_are_spread_over_time() -> None:
    t = np.arange(100, dtype=np.int64) * 10**8
    assert keyframe_steps(None, np.arange(100), t).tolist() == np.searchsorted(t, np.linspace(0, t[-1], 16)).tolist()


def test_components_do_not_depend_on_order() -> None:
    edges = [(3, 1), (4, 7), (1, 0), (7, 9)]
    wanted = [0, 0, 2, 0, 4, 5, 6, 4, 8, 4]
    assert components(10, edges).tolist() == components(10, edges[::-1]).tolist() == wanted
    assert shared_keys([["a"], ["b"], ["a", "c"], [], ["c"]]).tolist() == [0, 1, 0, 3, 0]
