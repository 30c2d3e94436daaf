import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import Camera
from tests.support.gaze import FISHEYE624
from transforms.gaze.geometry import angle_deg, cpf_direction, parallax_deg, spread_deg, vergence
from transforms.projection import project, unproject

K = (880.0, 0.0, 703.5, 0.0, 875.0, 701.5, 0.0, 0.0, 1.0)
LENSES = {
    "pinhole": None,
    # of a real Neon: it folds back in the far corners, where no ray arrives
    "opencv": (-0.13, 0.11, -1.5e-4, -2.5e-4, -3e-5, 0.17, 0.05, 0.026),
    "fisheye": (0.05, -0.02, 0.01, -0.003),
    "fisheye624": FISHEYE624,
}


def camera(lens: str) -> Camera:
    return Camera("c", width=1408, height=1408, intrinsics=K, projection=lens, distortion=LENSES[lens])  # type: ignore[arg-type]


@pytest.mark.parametrize("lens", LENSES)
@given(st.lists(st.tuples(st.floats(90, 1310), st.floats(90, 1310)), min_size=1, max_size=20))
@settings(max_examples=40)
def test_a_pixel_comes_back_from_its_ray(lens: str, points: list[tuple[float, float]]) -> None:
    pixels = np.array(points).T
    rays, found = unproject(camera(lens), pixels)
    assert found.all()
    assert np.abs(np.linalg.norm(rays, axis=0) - 1).max() < 1e-12
    back, ahead = project(camera(lens), np.eye(4), rays * 0.7)
    assert ahead.all()
    assert np.hypot(*(back - pixels)).max() < 0.1 / 1000


@pytest.mark.parametrize("lens", LENSES)
@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
@settings(max_examples=40)
def test_a_ray_comes_back_from_its_pixel(lens: str, yaw: float, pitch: float) -> None:
    ray = cpf_direction(np.array([yaw * 0.8]), np.array([pitch * 0.8]))
    pixels, _ = project(camera(lens), np.eye(4), ray * 2)
    back, found = unproject(camera(lens), pixels)
    assert found.all()
    assert angle_deg(ray, back)[0] < 1e-5


def test_rays_are_those_of_opencv() -> None:
    pixels = np.random.default_rng(0).uniform(200, 1200, (2, 50))
    matrix = np.reshape(K, (3, 3))
    tight = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-12)
    flat = cv2.undistortPointsIter(pixels.T[:, None], matrix, np.array(LENSES["opencv"]), np.eye(3), np.eye(3), tight)
    rays, _ = unproject(camera("opencv"), pixels)
    assert np.abs(rays[:2] / rays[2] - flat[:, 0].T).max() < 1e-6
    wide = cv2.fisheye.undistortPoints(pixels.T[:, None], matrix, np.array(LENSES["fisheye"]))
    rays, _ = unproject(camera("fisheye"), pixels)
    assert np.abs(rays[:2] / rays[2] - wide[:, 0].T).max() < 1e-6


def test_a_real_aria_lens_closes_over_its_whole_picture(data: Path) -> None:
    """Calibration of a device as it was recorded; MPS lenses see about 110 degrees in a circle of the square picture."""
    file = data / "annotation" / "hot3d_aria" / "P0003_c701bd11" / "mps" / "slam" / "online_calibration.jsonl"
    first = json.loads(file.read_text().splitlines()[0])
    params = next(c for c in first["CameraCalibrations"] if c["Label"] == "camera-rgb")["Projection"]["Params"]
    f, cx, cy, *bend = params
    lens = Camera("rgb", intrinsics=(f, 0, cx, 0, f, cy, 0, 0, 1), projection="fisheye624", distortion=tuple(bend))
    angle = np.linspace(0, 2 * np.pi, 200)
    pixels = np.concatenate(
        [np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)]) for r in np.linspace(0, 0.95 * cx, 20)], 1
    )
    rays, found = unproject(lens, pixels)
    assert found.all()
    assert np.hypot(*(project(lens, np.eye(4), rays)[0] - pixels)).max() < 0.1 / 1000


def test_a_pixel_that_no_ray_reaches_has_none() -> None:
    folded = Camera("c", intrinsics=K, projection="opencv", distortion=(-0.9, 0.0, 0.0, 0.0))  # r (1 - .9 r^2) ends at .406
    edge = 703.5 + 880 * np.array([0.0, 0.35, 0.5, np.nan])
    rays, found = unproject(folded, np.stack([edge, np.full(4, 701.5)]))
    assert found.tolist() == [True, True, False, False]
    assert np.isnan(rays[:, 2:]).all()
    with pytest.raises(ValueError, match="no intrinsics"):
        unproject(Camera("c"), np.zeros((2, 1)))


def test_eyes_meet_where_arias_own_tools_say() -> None:
    """Numbers of the unit tests of projectaria_tools (core/mps/test)."""
    left, right, pitch = np.array([[-0.1264797], [-0.07706982], [-0.26359045]])
    ray, distance, meet = vergence(left, right, pitch)
    assert meet.all()
    assert distance[0] == pytest.approx(1.31310134, abs=1e-6)
    assert (ray * distance)[:, 0] == pytest.approx([-0.12892598, -0.34047373, 1.26162232], abs=1e-6)
    point = cpf_direction(np.array([-0.102910490016660]), np.array([-0.288851886987686]))[:, 0] * 1.179526637404006
    assert point == pytest.approx([-0.116201334110103, -0.334355951558995, 1.12516063], abs=1e-6)


@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.2, 5.0))
@settings(max_examples=50)
def test_vergence_finds_the_point_both_eyes_look_at(x: float, y: float, z: float) -> None:
    left, right = (np.arctan2(x - s * 0.0315, z) for s in (1, -1))
    pitch = np.arctan2(y, z)
    ray, distance, meet = vergence(np.array([left]), np.array([right]), np.array([pitch]))
    assert meet.all()
    assert (ray * distance)[:, 0] == pytest.approx([x, y, z], rel=1e-6, abs=1e-7)


def test_eyes_that_part_look_at_no_point() -> None:
    _, distance, meet = vergence(np.array([0.2, 0.1]), np.array([0.1, 0.1]), np.zeros(2))
    assert not meet.any()
    assert np.isnan(distance).all()


def test_angles_and_spreads_are_those_of_their_definition() -> None:
    one = cpf_direction(np.zeros(3), np.zeros(3))
    other = cpf_direction(np.radians([0.0, 1e-5, 40.0]), np.zeros(3))
    assert angle_deg(one, other) == pytest.approx([0.0, 1e-5, 40.0], rel=1e-9)
    assert angle_deg(one, -one) == pytest.approx([180.0] * 3)
    assert spread_deg(np.radians([-1.959964]), np.radians([1.959964])) == pytest.approx([1.0])
    assert parallax_deg(1.0, 0.4, 0.06) == pytest.approx(5.1, abs=0.1)  # an assumed metre costs five degrees at arm's length
