import cv2
import numpy as np
import pytest

from schemas.contract import Camera
from transforms.camera_fit import fit_camera
from transforms.projection import project

K = (210.0, 0.0, 127.5, 0.0, 205.0, 120.5, 0.0, 0.0, 1.0)


def pose() -> np.ndarray:
    """A camera a metre away that looks at the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array([2.0, 0.4, 0.3]))[0]
    matrix[:3, 3] = matrix[:3, :3] @ [0.1, -0.05, -1.0]
    return matrix


def cloud(count: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (3, count))


def outside(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_camera_world as OpenCV wants it."""
    turn = matrix[:3, :3].T
    return cv2.Rodrigues(turn)[0], -turn @ matrix[:3, 3]


@pytest.mark.parametrize(
    "distortion",
    [(), (0.1, -0.05, 0.002, -0.003), (0.1, -0.05, 0.002, -0.003, 0.01), (0.2, 0.1, 0.001, 0.002, 0.01, 0.1, 0.02, 0.003)],
)
def test_pinholes_and_lenses_are_opencvs(distortion: tuple[float, ...]) -> None:
    camera = Camera("c", intrinsics=K, projection="opencv", distortion=distortion or None)
    found, ahead = project(camera, pose(), cloud())
    want, _ = cv2.projectPoints(cloud().T, *outside(pose()), np.reshape(K, (3, 3)), np.array(distortion or (0.0,) * 4))
    assert ahead.all()
    assert np.abs(found - want[:, 0].T).max() < 1e-9


def test_fisheyes_are_opencvs() -> None:
    camera = Camera("c", intrinsics=K, projection="fisheye", distortion=(0.05, -0.02, 0.01, -0.003))
    found, _ = project(camera, pose(), cloud())
    want, _ = cv2.fisheye.projectPoints(cloud().T[:, None], *outside(pose()), np.reshape(K, (3, 3)), np.array(camera.distortion))
    assert np.abs(found - want[:, 0].T).max() < 1e-9


def test_arias_lens_without_tangential_terms_is_a_longer_kannala_brandt() -> None:
    radial = (0.05, -0.02, 0.01, -0.003)
    aria = Camera("c", intrinsics=K, projection="fisheye624", distortion=(*radial, *(0.0,) * 8))
    assert np.allclose(
        project(aria, pose(), cloud())[0],
        project(Camera("c", intrinsics=K, projection="fisheye", distortion=radial), pose(), cloud())[0],
    )
    # tangential and prism terms, term by term as the model is published
    full = (*radial, 0.002, -0.001, 0.003, -0.002, 0.001, 0.0005, -0.001, 0.0002)
    uv, _ = project(Camera("c", intrinsics=K, projection="fisheye624", distortion=full), pose(), cloud(5))
    for column, point in zip(uv.T, (pose()[:3, :3].T @ (cloud(5).T - pose()[:3, 3]).T).T, strict=True):
        r = np.hypot(point[0], point[1]) / point[2]
        th = np.arctan(r)
        thr = th * (1 + sum(k * th ** (2 * i + 2) for i, k in enumerate(full[:6])))
        xr, yr = thr * point[0] / point[2] / r, thr * point[1] / point[2] / r
        rd = xr**2 + yr**2
        p0, p1, s0, s1, s2, s3 = full[6:]
        x = xr + (2 * xr**2 + rd) * p0 + 2 * xr * yr * p1 + s0 * rd + s1 * rd**2
        y = yr + (2 * yr**2 + rd) * p1 + 2 * xr * yr * p0 + s2 * rd + s3 * rd**2
        assert column == pytest.approx([K[0] * x + K[2], K[4] * y + K[5]])


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    behind = pose()[:3, :3] @ np.array([[0.0], [0.0], [-2.0]]) + pose()[:3, 3:]
    found, ahead = project(Camera("c", intrinsics=K), pose(), behind)
    assert not ahead[0]
    assert np.isnan(found).all()
    moving = np.stack([pose(), pose()])
    both, _ = project(Camera("c", intrinsics=K), moving, cloud(2))
    assert np.allclose(both, project(Camera("c", intrinsics=K), pose(), cloud(2))[0])
    for camera in (Camera("c"), Camera("c", intrinsics=K, projection="fisheye", distortion=(1.0,))):
        with pytest.raises(ValueError, match="camera c"):
            project(camera, pose(), cloud(2))


def test_a_camera_is_found_again_from_what_it_sees() -> None:
    camera, points = Camera("c", intrinsics=K), cloud(60)
    pixels = project(camera, pose(), points)[0]
    exact = fit_camera(points, pixels, 4.0)
    assert not isinstance(exact, str)
    assert exact.rmse < 1e-6
    fresh = cloud(500, 1)
    assert np.abs(exact.project(fresh)[0] - project(camera, pose(), fresh)[0]).max() < 1e-5
    rng = np.random.default_rng(2)
    spoilt = pixels + rng.normal(size=pixels.shape)
    spoilt[:, :15] = rng.uniform(0, 256, (2, 15))  # a quarter is nonsense
    robust = fit_camera(points, spoilt, 4.0)
    assert not isinstance(robust, str)
    assert robust.inliers[:15].sum() <= 1
    assert 0.7 < robust.rmse < 2.0
    gap = np.hypot(*(robust.project(fresh)[0] - project(camera, pose(), fresh)[0]))
    assert np.median(gap) < 1.5
    plain = np.linalg.norm(fit_camera(points, spoilt, 1e9).project(fresh)[0] - project(camera, pose(), fresh)[0], axis=0)  # type: ignore[union-attr]
    assert np.median(plain) > 5  # the twin without RANSAC


def test_noisy_pairs_along_a_flat_path_do_not_get_a_full_camera() -> None:
    """A hand's path: 20 cm long, nearly in a plane, a pixel of noise. The model that generalises is chosen, and it does."""
    camera, t = Camera("c", intrinsics=K), np.linspace(0, 1, 40)
    path = np.stack([0.2 * t, 0.1 * np.sin(3 * t), 0.004 * np.cos(9 * t)])
    exact = project(camera, pose(), path)[0]
    found = fit_camera(path, exact + np.random.default_rng(5).normal(size=exact.shape), 6.0)
    assert not isinstance(found, str)
    assert found.model != "full"
    further = np.stack([0.2 + 0.1 * t, 0.1 * np.sin(3 * t), 0.004 * np.cos(9 * t)])
    pixels, ahead = found.project(further)
    assert ahead.all()
    assert np.median(np.hypot(*(pixels - project(camera, pose(), further)[0]))) < 4


def test_points_of_a_plane_give_a_camera_of_the_plane() -> None:
    points = cloud(40)
    points[2] = 0.2 * points[0] + 0.05
    pixels = project(Camera("c", intrinsics=K), pose(), points)[0]
    found = fit_camera(points, pixels, 4.0)
    assert not isinstance(found, str)
    assert found.model == "plane"
    spoilt = pixels.copy()
    spoilt[:, :8] += np.random.default_rng(4).uniform(20, 60, (2, 8))
    robust = fit_camera(points, spoilt, 2.0)
    assert not isinstance(robust, str)
    assert not robust.inliers[:8].any()
    fresh = cloud(100, 3)
    fresh[2] = 0.2 * fresh[0] + 0.05
    assert np.abs(found.project(fresh)[0] - project(Camera("c", intrinsics=K), pose(), fresh)[0]).max() < 1e-5


def test_too_few_pairs_or_a_line_give_none() -> None:
    points = cloud(30)
    pixels = project(Camera("c", intrinsics=K), pose(), points)[0]
    assert fit_camera(points[:, :19], pixels[:, :19], 4.0) == "too_few_pairs"
    hidden = pixels.copy()
    hidden[:, 5:] = np.nan
    assert fit_camera(points, hidden, 4.0) == "too_few_pairs"
    assert fit_camera(np.outer([1.0, 2.0, 0.5], np.linspace(0, 1, 30)), pixels, 4.0) == "degenerate_motion"
    assert fit_camera(points, np.random.default_rng(9).uniform(0, 256, pixels.shape), 2.0) == "degenerate_motion"
