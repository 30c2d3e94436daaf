"""Depth pictures as the model sees them: metres, on a logarithmic scale from 0.1 to 5 m, 80 by 80."""

import numpy as np
import numpy.typing as npt

from schemas.contract import Camera, Contract

NEAR, FAR = 0.1, 5.0  # metres
SIDE = 80
F32 = npt.NDArray[np.float32]


def depth_camera(contract: Contract, name: str | None) -> Camera | str:
    """Return the depth camera of a dataset, or why there is none: `no_depth_camera`, `no_depth_unit`."""
    known = [c for c in contract.cameras if c.role == "depth" and name in (None, c.name)]
    if not known:
        return "no_depth_camera"
    stated = [c for c in known if c.depth_unit_m]
    return stated[0] if stated else "no_depth_unit"


def as_model_input(pictures: npt.NDArray[np.generic], unit_m: float) -> tuple[F32, F32]:
    """Scale pictures to the model's side without mixing distances.

    Args:
        pictures: uint[N, H, W]; 0 says that nothing was measured.
        unit_m: metres per unit.

    Returns:
        Metres float32[N, 80, 80], NaN where nothing was measured, and what the model is given: log depth in [0, 1], 1 for NaN.
    """
    import cv2

    metres = np.full((len(pictures), SIDE, SIDE), np.nan, np.float32)
    for place, picture in enumerate(pictures):
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
        metres[place] = np.where(small > 0, np.asarray(small, np.float32) * unit_m, np.nan)
    return metres, np.nan_to_num(to_log(metres), nan=1.0).astype(np.float32)


def to_log(metres: F32) -> F32:
    """Return log depth in [0, 1]; NaN stays."""
    clipped = np.clip(metres, NEAR, FAR)
    return (np.log(clipped / NEAR) / np.log(FAR / NEAR)).astype(np.float32)


def to_metres(log: F32) -> F32:
    """Undo `to_log`, inside the clip."""
    return (NEAR * np.exp(np.clip(log, 0, 1) * np.log(FAR / NEAR))).astype(np.float32)


def errors(metres: F32, found: F32) -> tuple[F32, F32, F32]:
    """Return per picture the root mean square error in metres, |error| / depth, and the share within a factor of 1.25.

    Over the measured pixels inside [0.1, 5] m; NaN where a picture has none.
    """
    use = (metres >= NEAR) & (metres <= FAR)
    count = use.sum((1, 2))
    safe = np.where(use, metres, 1.0)
    gap = np.where(use, found - safe, 0.0)
    ratio = np.where(use, np.maximum(found / safe, safe / np.maximum(found, 1e-6)), np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        rmse = np.sqrt((gap**2).sum((1, 2)) / count)
        relative = np.where(use, np.abs(gap) / safe, 0.0).sum((1, 2)) / count
        near = (ratio < 1.25).sum((1, 2)) / count
    return rmse.astype(np.float32), relative.astype(np.float32), near.astype(np.float32)
