"""Counter-based noise: pinned values, independence of order, and the distribution it claims to have."""

import numpy as np
from scipy import stats

from transforms.noise import noise_key, normal, raw, uniform


def test_the_stream_is_pinned_for_ever() -> None:
    assert hex(noise_key("arm", "ep-1", 0, "gaze", 0, "eps")) == KEY
    assert raw(1, 3).tolist() == np.random.Generator(np.random.Philox(key=1, counter=0)).bit_generator.random_raw(3).tolist()
    assert normal(1, (4,)).tolist() == NORMALS


def test_a_prefix_does_not_depend_on_how_much_is_asked_for() -> None:
    assert normal(7, (3, 5)).reshape(-1).tolist() == normal(7, (31,))[:15].tolist()
    assert uniform(7, (2, 4)).reshape(-1).tolist() == uniform(7, (100,))[:8].tolist()


def test_keys_keep_their_parts_apart() -> None:
    keys = {noise_key("a", "bc"), noise_key("ab", "c"), noise_key("a", "b", "c"), noise_key(1), noise_key("1"), noise_key()}
    assert len(keys) == 6
    assert all(0 <= k < 1 << 128 for k in keys)


def test_numbers_have_the_distribution_they_claim() -> None:
    z = normal(3, (20_000,))
    assert z.dtype == np.float16
    assert stats.kstest(z.astype(np.float64), "norm").pvalue > 0.01
    assert stats.kstest(uniform(3, (20_000,)), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(z[::2].astype(float), z[1::2].astype(float))[0, 1]) < 0.03
    others = np.stack([normal(noise_key("row", n), (64,)) for n in range(300)]).astype(float)
    assert abs(np.corrcoef(others[:-1].ravel(), others[1:].ravel())[0, 1]) < 0.03
