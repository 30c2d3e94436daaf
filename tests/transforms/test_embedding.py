"""The embedding that needs no weights."""

import numpy as np
from scipy.fft import dctn

from transforms.embedding import KEPT, SIDE, SIZE, embed


def test_it_is_the_low_frequencies_of_the_small_picture():
    picture = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    low = dctn(picture[0] / 255.0, axes=(0, 1), norm="ortho")[:KEPT, :KEPT].reshape(-1)
    np.testing.assert_allclose(embed(picture)[0], low / np.linalg.norm(low), atol=1e-6)


def test_alike_pictures_lie_closer_than_others():
    rng = np.random.default_rng(1)
    scenes = [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))) for _ in range(2)]
    seen = embed(np.stack([np.clip(s + rng.normal(0, 10, s.shape), 0, 255) for s in (*scenes, *scenes)]).astype(np.uint8))
    assert seen.shape == (4, SIZE)
    assert seen[0] @ seen[2] > seen[0] @ seen[1] + 0.05


def test_black_and_nothing_have_an_embedding_too():
    assert not embed(np.zeros((1, 8, 8, 3), np.uint8)).any()
    assert embed(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, SIZE)
