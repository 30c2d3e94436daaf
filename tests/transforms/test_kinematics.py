from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.kinematics import poses, read_chain
from transforms.rotation import to_matrix

URDF = (Path(__file__).parent.parent / "support" / "arms.urdf").read_text()


def test_a_scara_arm_is_where_trigonometry_says() -> None:
    chain = read_chain(URDF, "hand")
    assert chain.moving == ("shoulder", "elbow", "lift")
    a, b, d = np.random.default_rng(0).uniform(-2, 2, (3, 50))
    pose = chain.pose({"shoulder": a, "elbow": b, "lift": d})
    np.testing.assert_allclose(pose[0], 0.4 * np.cos(a) + 0.3 * np.cos(a + b), atol=1e-12)
    np.testing.assert_allclose(pose[1], 0.4 * np.sin(a) + 0.3 * np.sin(a + b), atol=1e-12)
    np.testing.assert_allclose(pose[2], 0.3 + d - 0.1, atol=1e-12)  # upside down: the slide goes up, the flange hangs down
    flipped = to_matrix(pose[3:])
    np.testing.assert_allclose(flipped[2, 2], -1, atol=1e-12)
    np.testing.assert_allclose(flipped[0, 0], np.cos(a + b), atol=1e-12)


def test_mujoco_agrees() -> None:
    mujoco = pytest.importorskip("mujoco")
    body = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
    whole = URDF
    for link in ("base", "upper", "fore", "slide", "hand"):
        whole = whole.replace(f'<link name="{link}"/>', f'<link name="{link}">{body}</link>')
    whole = whole.replace("<axis", '<limit lower="-3" upper="3" effort="1" velocity="1"/><axis')
    whole = whole.replace('"two_link">', '"two_link"><mujoco><compiler fusestatic="false"/></mujoco>')
    model = mujoco.MjModel.from_xml_string(whole)
    data = mujoco.MjData(model)
    chain = read_chain(URDF, "hand")
    for q in np.random.default_rng(1).uniform(-2, 2, (5, 3)):
        for name, value in zip(chain.moving, q, strict=True):
            data.joint(name).qpos[0] = value
        mujoco.mj_forward(model, data)
        pose = chain.pose({n: np.array([v]) for n, v in zip(chain.moving, q, strict=True)})[:, 0]
        np.testing.assert_allclose(pose[:3], data.body("hand").xpos, atol=1e-9)
        assert abs(pose[3:] @ data.body("hand").xquat) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "tip", "told"),
    [
        ("<robot", "hand", "not XML"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><robot/>', "hand", "refused"),
        (URDF, "foot", "no link 'foot'"),
        (URDF.replace("prismatic", "planar"), "hand", "planar"),
        (URDF.replace('"0.4 0 0"', '"0.4 0"'), "hand", "three numbers"),
        (URDF.replace('"0 0 2"', '"0 0 0"'), "hand", "length zero"),
        (URDF.replace('<parent link="base"/>', '<parent link="hand"/>'), "hand", "loop"),
        (URDF.replace('<axis xyz="0 0 1"/>', '<mimic joint="elbow"/>'), "hand", "mimics"),
    ],
)
def test_what_is_no_serial_chain_is_refused(text: str, tip: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_chain(text, tip)


def test_joints_that_are_not_recorded_are_named() -> None:
    with pytest.raises(UsageError, match=r"elbow, lift.*it has shoulder"):
        poses([read_chain(URDF, "hand")], ["shoulder"], np.zeros((1, 4)))
