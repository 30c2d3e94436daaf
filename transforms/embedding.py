"""A picture embedding without weights: low spatial frequencies of colour, enough to tell scenes apart and the same everywhere.

It stands in where no trained encoder is at hand; a trained one is any callable that takes the same pictures.
"""

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]
SIDE = 32
KEPT = 6  # lowest frequencies per axis and channel
SIZE = 3 * KEPT * KEPT
NAME = f"colour-dct-{SIDE}-{KEPT}"


def embed(pictures: RGB) -> npt.NDArray[np.float32]:
    """Return float32[n, SIZE] of unit length for RGB uint8[n, H, W, 3]: the lowest DCT-II coefficients of the area-averaged picture.

    A black picture is all zeros.
    """
    from scipy.fft import dctn

    if not len(pictures):
        return np.empty((0, SIZE), np.float32)
    small = np.stack([_shrunk(p) for p in pictures])
    low = np.asarray(dctn(small / 255.0, axes=(1, 2), norm="ortho"))[:, :KEPT, :KEPT].reshape(len(small), -1)
    length = np.linalg.norm(low, axis=1, keepdims=True)
    return (low / np.where(length > 0, length, 1)).astype(np.float32)


def _shrunk(picture: RGB) -> npt.NDArray[np.float32]:
    import cv2

    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
