"""How language motions are to be told."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from annotators.motion.source import Prefer
from schemas.errors import UsageError
from transforms.motion import RateRule
from transforms.motion_text import FrameRef


@dataclass(frozen=True, slots=True)
class LanguageMotionConfig(RateRule):
    """How to label motions; the inherited fields are the thresholds.

    Attributes:
        rule: `rate`, or `ecot_verbatim` for comparison.
        source: `proprio`, `action`, or whichever the contract offers first.
        frame_ref: the axes words refer to: robot base, a camera, the end effector's own, or the user's.
        camera: which camera, for `camera`; None takes the first that is calibrated.
        user_rotation: row-major 3x3 whose columns are the user's forward, left and up in the base frame, for `user`.
        adverbs: say "slightly" below 0.1 m/s and "quickly" above 0.3 m/s.
        max_parts: parts of a sentence.
        words: `(axis, negative, positive)` to use instead of the built-in words.
        objects: what to do with object poses that a simulator recorded: `off`, name the object moved at in the column `toward`, or
            also in the `text` ("move arm toward the red cup").
        kinematics: `module:function` of joint names and angles float64[J, T] that returns, per arm's name ("" for the only one), its
            pose float64[7, T] (metres, quaternion wxyz), for robots that only tell joints.
        urdf: file to read serial chains from instead, up to the links `tips`.
        tips: see `urdf`.
    """

    rule: Literal["rate", "ecot_verbatim"] = "rate"
    source: Prefer = "auto"
    frame_ref: FrameRef = "base"
    camera: str | None = None
    user_rotation: tuple[float, ...] = ()
    adverbs: bool = False
    max_parts: int = 3
    words: tuple[tuple[str, str, str], ...] = ()
    objects: Literal["off", "column", "text"] = "column"
    kinematics: str = ""
    urdf: str = ""
    tips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        RateRule.__post_init__(self)
        choices = {
            "rule": ("rate", "ecot_verbatim"),
            "source": ("auto", "proprio", "action"),
            "frame_ref": ("base", "camera", "ee", "user"),
            "objects": ("off", "column", "text"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r} is unknown; use {', '.join(known)}")
        if self.frame_ref == "user":
            turn = np.array(self.user_rotation, np.float64)
            square = turn.reshape(3, 3) if turn.size == 9 else np.zeros((3, 3))
            if not np.allclose(square @ square.T, np.eye(3), atol=1e-3) or np.linalg.det(square) < 0:
                raise UsageError("frame_ref='user' needs user_rotation: nine numbers, a row-major rotation matrix")
        if self.kinematics and self.urdf:
            raise UsageError("kinematics and urdf both say where the hands are; give one of them")
        if bool(self.urdf) != bool(self.tips):
            raise UsageError("urdf and tips belong together: a file, and the links at which its chains end")
        if self.max_parts < 1:
            raise UsageError(f"max_parts={self.max_parts} leaves nothing to say; use 1 or more")
