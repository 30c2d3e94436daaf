"""Counter-based noise: pinned values, independence of what else is drawn, and the distribution it claims to have."""

import numpy as np
from scipy import stats

from transforms.noise import normals, raw, seed_of, uniforms

SEED = 11515690707033075585
NORMALS = [0.85888671875, 0.56201171875, 1.283203125, 0.11126708984375]


def test_the_stream_is_pinned_for_ever() -> None:
    assert seed_of("arm", "ep-1", 0, "gaze", "eps") == SEED
    assert raw([1], 0, 3)[0].tolist() == np.random.Philox(key=1, counter=0).random_raw(3).tolist()
    assert normals([1], 0, (4,))[0].tolist() == NORMALS


def test_a_row_does_not_depend_on_the_others() -> None:
    together = normals([5, 7, 9], 2, (3, 5))
    assert together.shape == (3, 3, 5)
    for row, seed in enumerate((5, 7, 9)):
        assert (normals([seed], 2, (3, 5))[0] == together[row]).all()
    assert not (normals([5], 3, (3, 5))[0] == together[0]).all()


def test_seeds_keep_their_parts_apart() -> None:
    assert len({seed_of("a", "bc"), seed_of("ab", "c"), seed_of("a", "b", "c"), seed_of("a"), seed_of("b")}) == 5


def test_numbers_have_the_distribution_they_claim() -> None:
    z = normals([3], 0, (20_000,))[0]
    assert z.dtype == np.float16
    assert stats.kstest(z.astype(np.float64), "norm").pvalue > 0.01
    assert stats.kstest(uniforms([3], 0, 20_000)[0], "uniform").pvalue > 0.01
    rows = normals([seed_of("row", n) for n in range(300)], 0, (64,)).astype(float)
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(rows[:, :32].ravel(), rows[:, 32:].ravel())[0, 1]) < 0.03
