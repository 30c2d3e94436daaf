"""Plain features of pictures, for the baselines that learn nothing: what a linear probe can tell from where colours are."""

from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
SIDE = 32


def picture_features(pictures: npt.NDArray[np.uint8] | F32) -> F32:
    """Return the mean colour of every row and every column of pictures scaled to 32 by 32: float32[n, 192].

    A thing's place is linear in them while it moves over an even ground; what is where, they do not know.

    Args:
        pictures: uint8[n, H, W, 3], or float32 in 0..1.
    """
    import cv2

    scale = np.float32(1 / 255 if pictures.dtype == np.uint8 else 1)
    if pictures.shape[1:3] != (SIDE, SIDE):
        small: Any = np.empty((len(pictures), SIDE, SIDE, 3), pictures.dtype)
        for place, picture in zip(small, pictures, strict=True):
            place[:] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return picture_features(small)
    across, down = (pictures.mean(axis, dtype=np.float32).reshape(len(pictures), -1) * scale for axis in (1, 2))
    return np.concatenate([across, down], 1).astype(np.float32)
