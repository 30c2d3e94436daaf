"""End-effector poses for robots that only tell joints: forward kinematics by the user's function, or along a URDF's chains.

What it finds becomes a further step column, `kinematics.<arm>`: position, quaternion wxyz, opening of the hand. Everything after
that treats such a robot as any other that tells its end effector.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.read import read_slots
from annotators.motion.source import MotionSource, find_source
from annotators.weights import hash_weights
from schemas.contract import Contract, Feature, Part
from schemas.errors import AnnotatorError, UsageError
from schemas.registry import load_function
from transforms.kinematics import poses, read_chain
from transforms.rotation import F64

# (joint names, float64[J, T]) -> arm's name ("" where there is one) -> float64[7, T]
type Kinematics = Callable[[Sequence[str], F64], Mapping[str, F64]]
MARK = "kinematics."


def joint_source(contract: Contract, config: LanguageMotionConfig) -> MotionSource | None:
    """Return the joints forward kinematics would start from; None where it is not asked for or not needed."""
    if not (config.kinematics or config.urdf):
        return None
    source = find_source(contract, config.source)
    return source if source is not None and not source.arms and source.joint_slot is not None else None


def with_kinematics(contract: Contract, config: LanguageMotionConfig) -> Contract:
    """Return the contract with a feature per arm that forward kinematics finds; the contract itself where it finds none."""
    source = joint_source(contract, config)
    if source is None:
        return contract
    names = [j.name for j in source.joints]
    arms = load_kinematics(config)(names, np.zeros((len(names), 1)))
    role = "action" if source.kind == "action" else "state"
    return replace(contract, features=(*contract.features, *(_feature(who, role, source) for who in arms)))


def place_hands(batch: Batch, config: LanguageMotionConfig) -> Batch:
    """Return the batch with a column per arm; the batch itself where there is nothing to find.

    Raises:
        AnnotatorError: the user's function returned something else than poses.
    """
    source = joint_source(batch.contract, config)
    if source is None or source.joint_slot is None:
        return batch
    values, finite, _ = read_slots(batch, source)
    names = [j.name for j in source.joints]
    steps = batch.steps
    for who, pose in load_kinematics(config)(names, values[source.joint_slot]).items():
        wanted = (7, batch.steps.num_rows)
        if np.shape(pose) != wanted:
            raise AnnotatorError(f"kinematics for {who or 'the arm'} returned the shape {np.shape(pose)}, not {wanted}")
        hand = [h.slot for h in source.hands if h.who.split(" ")[0] == who.split(" ")[0] or len(source.hands) == 1]
        opening = values[hand[0]].mean(0)[None] if hand else np.ones((1, wanted[1]))
        column = np.where(finite, np.concatenate([np.asarray(pose, np.float64), opening]), np.nan)
        steps = steps.append_column(_column(who), pa.FixedSizeListArray.from_arrays(pa.array(column.T.reshape(-1)), 8))
    return replace(batch, contract=with_kinematics(batch.contract, config), steps=steps)


def load_kinematics(config: LanguageMotionConfig) -> Kinematics:
    """Return the user's function, or one along the URDF's chains to `tips`.

    Raises:
        UsageError: there is no such function or file, or the URDF does not fit.
    """
    if config.kinematics:
        return load_function(config.kinematics, "kinematics")
    path = Path(config.urdf).expanduser()
    if not path.is_file():
        raise UsageError(f"urdf={config.urdf} does not exist")
    text = path.read_text()
    chains = [read_chain(text, tip) for tip in config.tips]
    names = [_who(tip, len(chains), at) for at, tip in enumerate(config.tips)]
    return lambda joints, q: dict(zip(names, poses(chains, joints, q), strict=True))


def kinematics_hashes(config: LanguageMotionConfig) -> tuple[str, ...]:
    """Return the hash of the URDF, or of the file the user's function is in: part of the fingerprint."""
    if config.urdf:
        return hash_weights(config.urdf)
    if not config.kinematics:
        return ()
    import inspect

    file = inspect.getsourcefile(load_function(config.kinematics, "kinematics"))
    return hash_weights(file) if file else ()


def _feature(who: str, role: str, source: MotionSource) -> Feature:
    parts = (
        Part("ee_position", 0, 3, representation="absolute", unit="m"),
        Part("ee_rotation", 3, 7, representation="absolute", rotation="quat_wxyz"),
        Part("gripper", 7, 8, gripper_open=1.0, gripper_closed=0.0),
    )
    told = parts if source.hands else parts[:2]
    return Feature(_column(who), "float64", (8,), role="action" if role == "action" else "state", parts=told)


def _column(who: str) -> str:
    return MARK + (who.replace(" ", "_") or "arm")


def _who(tip: str, count: int, at: int) -> str:
    if count == 1:
        return ""
    side = next((s for s in ("left", "right") if s in tip.lower()), None)
    return f"{side} arm" if side else f"arm {at + 1}"
