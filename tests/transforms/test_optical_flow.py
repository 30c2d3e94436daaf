"""Optical flow: known motions, closed forms, and OpenCV's own conversion as an independent reader."""

import cv2
import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.optical_flow import affine, camera_shift, dense_flow, describe, grey


def texture(side: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.5), None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]


@pytest.mark.parametrize("side", [32, 64, 128])
def test_a_known_shift_is_found_with_its_sign(side: int) -> None:
    wide = texture(side + 16)
    first, second = wide[8:-8, 8:-8], wide[6:-10, 11:-5]  # what was at (x, y) is now at (x - 3, y + 2)
    flow = dense_flow(first, second)
    assert flow.shape == (side, side, 2)
    middle = flow[side // 4 : -side // 4, side // 4 : -side // 4]
    assert np.abs(np.median(middle, (0, 1)) - [-3, 2]).max() < 0.1
    assert camera_shift(flow) == pytest.approx((-3, 2), abs=0.3)


def test_nothing_moves_where_nothing_moves_whatever_the_threads() -> None:
    still, before = texture(64), cv2.getNumThreads()
    assert np.abs(dense_flow(still, still)).max() < 0.01
    moved = np.roll(still, 2, axis=1)
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(dense_flow(still, moved))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(*found)


def test_a_thing_that_moves_in_the_middle_is_no_camera() -> None:
    flow = np.zeros((64, 64, 2), np.float32)
    flow[20:44, 20:44] = (5, -3)
    assert camera_shift(flow) == (0.0, 0.0)
    shaken = flow + np.array([1.5, -0.5], np.float32)
    assert camera_shift(shaken) == (1.5, -0.5)


def test_affine_motion_is_read_back_and_the_description_is_in_fractions() -> None:
    height, width = 32, 48
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    wanted = np.array([[2.0, -1.0, 0.5], [-3.0, 0.25, 4.0]])
    flow = np.stack([row[0] + row[1] * x + row[2] * y for row in wanted], -1).astype(np.float32)
    assert affine(flow) == pytest.approx(wanted, abs=1e-5)
    told = describe(flow, 4)
    assert told.shape == (38,)
    assert told[-6:].reshape(2, 3) == pytest.approx(wanted / np.array([[width], [height]]), abs=1e-6)
    assert told[:2] == pytest.approx(flow[:8, :12].mean((0, 1)) / [width, height], abs=1e-6)
    assert describe(np.repeat(np.repeat(flow * 2, 2, 0), 2, 1), 4)[:32] == pytest.approx(told[:32], abs=1e-6)


def test_luminance_is_opencvs() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8)
    for own, picture in zip(grey(pictures), pictures, strict=True):
        assert np.array_equal(own, cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def test_pictures_of_two_sizes_or_none_to_speak_of_are_refused() -> None:
    with pytest.raises(UsageError, match="one size of at least 16"):
        dense_flow(texture(32), texture(48))
    with pytest.raises(UsageError):
        dense_flow(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8))
