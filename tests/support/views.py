"""Known arm motion in front of a known camera: calibrated, or with pixels somebody told."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from annotators.base import Batch
from schemas.contract import Camera, Contract, Stream
from schemas.shards import STREAMS, steps_schema
from tests.support.motion import make_trajectory, sample

K = (280.0, 0.0, 127.5, 0.0, 280.0, 127.5, 0.0, 0.0, 1.0)


def outside() -> np.ndarray:
    """T_base_camera of a camera 1.5 m in front of the arm that looks at (0.4, 0, 0.3)."""
    ahead = np.array([-1.0, 0.2, -0.4])
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], 1)
    pose[:3, 3] = np.array([0.4, 0.0, 0.3]) - 1.5 * ahead
    return pose


def front(**options: Any) -> Camera:
    return Camera(
        "front", role="exterior", width=256, height=256, intrinsics=K, extrinsics=tuple(outside().reshape(-1)), **options
    )


def seen(tips: np.ndarray) -> np.ndarray:
    """Pixels float64[2, T] by OpenCV."""
    turn = outside()[:3, :3].T
    pixels, _ = cv2.projectPoints(
        np.ascontiguousarray(tips.T), cv2.Rodrigues(turn)[0], -turn @ outside()[:3, 3], np.reshape(K, (3, 3)), np.zeros(4)
    )
    return pixels[:, 0].T


@lru_cache
def filmed(hz: int, seeds: tuple[int, ...] = (0, 1, 2, 3), seconds: float = 4.0, noise_px: float = 0.0, **hide: bool) -> Batch:
    """Arm motion, a camera, and the pixel of the hand at every step as a signal. `calibration=False` hides the calibration."""
    plain = sample([make_trajectory(s, seconds) for s in seeds], hz)
    camera = front() if hide.get("calibration", True) else Camera("front", role="exterior", width=256, height=256)
    streams = (Stream("hand_pixel.front", ("u", "v"), "px", privileged=True),) if hide.get("pixels", True) else ()
    contract = replace(plain.contract, cameras=(camera,), streams=streams)
    return rebuilt(plain, contract, noise_px) if streams else Batch(contract, framed(plain.steps, contract))


def framed(steps: pa.Table, contract: Contract) -> pa.Table:
    schema = steps_schema(contract)
    values = [
        steps.column(f.name) if f.name in steps.column_names else pa.array(np.zeros(steps.num_rows, np.int32)) for f in schema
    ]
    return pa.table(values, schema=schema)


def rebuilt(plain: Batch, contract: Contract, noise_px: float) -> Batch:
    tips = np.stack(plain.steps.column("observation.state").to_pylist())[:, :3].T.astype(float)
    pixels = seen(tips) + np.random.default_rng(0).normal(size=(2, tips.shape[1])) * noise_px
    values = {
        "episode_id": plain.steps.column("episode_id").combine_chunks(),
        "stream": pa.array(["hand_pixel.front"] * len(plain.t_ns)).dictionary_encode(),
        "t_ns": pa.array(plain.t_ns),
        "values": pa.array(pixels.T.tolist(), pa.list_(pa.float64())),
    }
    table = pa.table([values.get(f.name, pa.nulls(len(plain.t_ns), f.type)) for f in STREAMS], schema=STREAMS)
    return Batch(contract, framed(plain.steps, contract), streams=table)
