"""What a simulator says about its cameras is where things are drawn."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipelines.record.metaworld import BASE_FROM_WORLD, MetaWorld, head_view
from pipelines.record.metaworld_factors import Prop
from pipelines.record.record import resolve
from pipelines.record.render import View
from pipelines.record.rollout import Rollout
from pipelines.record.spec import RecordSpec
from schemas.contract import Contract
from schemas.errors import UsageError
from transforms.projection import project
from transforms.rotation import to_matrix

TASK = "drawer-open-v3"
SPEC = RecordSpec(
    simulator="metaworld", tasks=(TASK,), size=128, segmentation_hz=0, cameras=("front", "wrist", "ego"), hz=10, depth_hz=2
)


@pytest.fixture(scope="module")
def simulator(gl: str) -> Iterator[MetaWorld]:
    made = MetaWorld(SPEC)
    yield made
    made.close()


@pytest.fixture(scope="module")
def contract(simulator: MetaWorld) -> Contract:
    return simulator.contract((TASK,))


@pytest.fixture(scope="module")
def rollout(simulator: MetaWorld) -> Rollout:
    return simulator.run(TASK, 0)


def stream(rollout: Rollout, name: str) -> np.ndarray:
    return next(s.values for s in rollout.streams if s.name == name)


def test_a_marker_is_drawn_where_the_sight_says(simulator: MetaWorld, rollout: Rollout) -> None:
    stage = simulator._open(TASK)
    data, photographer = stage.env.data, stage.photographer
    whole = 0
    for view in (View("corner2", upside_down=True), head_view(data.body("hand").xpos, 0.0)):
        for place in ((0.0, 0.6, 0.3), (0.15, 0.65, 0.25), (-0.1, 0.5, 0.2), (0.2, 0.5, 0.1)):
            photographer.props[:] = [Prop("sphere", (0.03, 0.03, 0.03), place, (1.0, 0.0, 0.0))]
            marked = photographer.masks(data, view) == stage.env.model.nbody + 1
            photographer.picture(data, view)
            sight = photographer.sight(view, np.array(place))
            photographer.props[:] = []
            away = np.linalg.norm(np.array(place) - sight.pose[:3, 3])
            disc = np.pi * (sight.lens[0] * 0.03 / away) ** 2
            if marked.sum() < 0.9 * disc:
                continue  # partly behind something
            whole += 1
            assert np.hypot(*(sight.pixel - np.argwhere(marked).mean(0)[::-1])) < 0.7
    assert whole >= 4


def test_the_contracts_calibration_agrees_with_the_renderer(contract: Contract, rollout: Rollout) -> None:
    front = next(c for c in contract.cameras if c.name == "front")
    view = stream(rollout, "camera_view.front")
    assert len(view) == 1  # it stands still
    turn = to_matrix(view[0, 7:, None])[..., 0]
    pose = np.array(front.extrinsics).reshape(4, 4)
    assert np.abs(pose[:3, :3] - turn).max() < 1e-5
    assert np.abs(pose[:3, 3] - view[0, 4:7]).max() < 1e-5
    assert np.array(front.intrinsics)[[0, 4, 2, 5]] == pytest.approx(view[0, :4], rel=1e-5)
    hand = rollout.columns["observation.state"][:, :3].T.astype(float)
    found, ahead = project(front, pose, hand)
    assert ahead.all()
    assert np.abs(found - stream(rollout, "hand_pixel.front").T).max() < 0.05


def test_a_moving_camera_says_where_it_is_at_every_step(contract: Contract, rollout: Rollout) -> None:
    from dataclasses import replace

    views = stream(rollout, "camera_view.ego")
    assert len(views) == len(rollout.reward)
    fx, fy, cx, cy = views[0, :4]
    camera = replace(next(c for c in contract.cameras if c.name == "ego"), intrinsics=(fx, 0, cx, 0, fy, cy, 0, 0, 1))
    poses = np.tile(np.eye(4), (len(views), 1, 1))
    poses[:, :3, :3] = to_matrix(views[:, 7:].T).transpose(2, 0, 1)
    poses[:, :3, 3] = views[:, 4:7]
    found, _ = project(camera, poses, rollout.columns["observation.state"][:, :3].T.astype(float))
    assert np.abs(found - stream(rollout, "hand_pixel.ego").T).max() < 0.05


def test_depth_is_millimetres_along_the_axis(contract: Contract, rollout: Rollout) -> None:
    """The table is flat: points lifted from the depth picture lie on one height."""
    camera = next(c for c in contract.cameras if c.name == "depth.front")
    assert (camera.role, camera.depth_unit_m, camera.privileged) == ("depth", 0.001, True)
    taken = rollout.masks["depth.front"]
    assert taken.images.dtype == np.uint16
    assert taken.steps.tolist() == list(range(0, len(rollout.reward), 5))
    image = taken.images[0] * camera.depth_unit_m
    matrix, pose = np.array(camera.intrinsics).reshape(3, 3), np.array(camera.extrinsics).reshape(4, 4)
    v, u = np.mgrid[:128, :128]
    rays = np.linalg.inv(matrix) @ np.stack([u.ravel(), v.ravel(), np.ones(128 * 128)])
    points = pose[:3, :3] @ (rays * image.ravel()) + pose[:3, 3:]
    height = points[2][np.abs(points[2]) < 0.05]
    assert len(height) > 2000
    _, counts = np.unique(np.round(height, 2), return_counts=True)
    assert counts.max() > 0.6 * len(height)
    assert np.abs(np.linalg.det(BASE_FROM_WORLD) - 1) < 1e-12


def test_only_meta_world_has_depth() -> None:
    with pytest.raises(UsageError, match="no depth"):
        resolve(RecordSpec(simulator="pusht", depth_hz=5))
    assert "depth_hz" not in RecordSpec().to_dict()
    assert RecordSpec.from_dict(RecordSpec(depth_hz=5).to_dict()).depth_hz == 5
