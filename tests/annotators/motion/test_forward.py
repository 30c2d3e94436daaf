from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.language_motion import LanguageMotion
from schemas.contract import Contract, Feature
from schemas.errors import AnnotatorError, UsageError
from tests.support.motion import batch_of

URDF = str(Path(__file__).parents[2] / "support" / "arms.urdf")
NAMES = ("shoulder", "elbow", "lift", "gripper")
MOTION = LanguageMotion(LanguageMotionConfig(urdf=URDF, tips=("hand",), source="proprio"))


def joints(q: np.ndarray, hz: float = 20) -> Batch:
    feature = Feature("observation.state", "float32", (4,), NAMES, role="joint_position", representation="absolute")
    t = np.rint(np.arange(q.shape[1]) * 1e9 / hz).astype(np.int64)
    return batch_of(Contract("scara", "robot", "scara", hz, features=(feature,)), t, [q.shape[1]], {"observation.state": q})


def swing() -> Batch:
    """The shoulder turns left at 0.5 rad/s while the arm points ahead; then the slide goes up and the gripper closes."""
    t = np.arange(80) / 20
    still = np.zeros(80)
    return joints(np.stack([0.5 * np.clip(t, 0, 1), still, 0.1 * np.clip(t - 2, 0, 1), 1 - np.clip((t - 3) / 0.4, 0, 1)]))


def rows_of(annotator: LanguageMotion, batch: Batch) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


def scara(names: list[str], q: np.ndarray) -> dict[str, np.ndarray]:
    assert names == ["shoulder", "elbow", "lift"]
    a, b, d = q
    pose = [0.4 * np.cos(a) + 0.3 * np.cos(a + b), 0.4 * np.sin(a) + 0.3 * np.sin(a + b), 0.2 + d]
    return {"": np.stack([*pose, 0 * a, np.cos((a + b) / 2), np.sin((a + b) / 2), 0 * a])}


def crooked(names: list[str], q: np.ndarray) -> dict[str, np.ndarray]:
    return {"": q}


def test_joints_become_motions_of_the_hand() -> None:
    batch = swing()
    rows = rows_of(MOTION, batch)
    texts = [r["text"] for r in rows if r["valid"]]
    assert texts[0] == "move arm left, rotate counterclockwise"
    assert "move arm up" in texts
    assert any("close gripper" in t for t in texts)
    assert rows[0]["axes"] == "x,y,z,rx,ry,rz,grip,base"
    assert MOTION.requires(batch.contract) == ("observation.state",)
    plain = rows_of(LanguageMotion(LanguageMotionConfig(source="proprio")), batch)
    assert plain[0]["text"] == "shoulder left" or "shoulder" in plain[0]["text"]


def test_a_function_and_a_urdf_say_the_same() -> None:
    batch = swing()
    mine = LanguageMotion(LanguageMotionConfig(kinematics=f"{__name__}:scara", source="proprio"))
    columns = ("start_step", "end_step", "text", "code", "reason")
    one, two = ([{c: r[c] for c in columns} for r in rows_of(m, batch)] for m in (MOTION, mine))
    assert one == two
    assert mine.fingerprint() != MOTION.fingerprint()


def test_the_fingerprint_follows_the_urdf(tmp_path: Path) -> None:
    copy = tmp_path / "arm.urdf"
    prints = []
    for reach in ("0.4", "0.5"):
        copy.write_text(Path(URDF).read_text().replace("0.4 0 0", f"{reach} 0 0") + " " * len(prints))
        prints.append(LanguageMotion(LanguageMotionConfig(urdf=str(copy), tips=("hand",))).fingerprint())
    assert prints[0] != prints[1]


def test_quality_is_measured_at_the_hand() -> None:
    found = {r.metric: r for r in MOTION.evaluate(swing())}
    assert found["sign_agreement"].value == 1.0
    assert found["rate_invariance"].value is not None


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        LanguageMotionConfig(urdf=URDF)
    with pytest.raises(UsageError, match="one of them"):
        LanguageMotionConfig(urdf=URDF, tips=("hand",), kinematics="a:b")
    with pytest.raises(UsageError, match="does not exist"):
        LanguageMotion(LanguageMotionConfig(urdf=str(tmp_path / "none.urdf"), tips=("hand",))).usable(swing().contract)
    with pytest.raises(AnnotatorError, match="shape"):
        LanguageMotion(LanguageMotionConfig(kinematics=f"{__name__}:crooked", source="proprio")).run(swing())
