"""Where did everything go between two pictures? Dense flow without weights, what of it the camera explains, and a short description.

Flow is float32[H, W, 2] in pixels, horizontal first: what is at `(x, y)` of the first picture is at `(x, y) + flow[y, x]` of the second.
"""

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
CELLS = 4
LEAST = 16  # the smallest side DIS has a patch pyramid for
_BORDER = 24 / 256  # of the side: where a fixed camera sees background
_SMALL = 96  # below this side a pixel is worth looking at


def grey(pictures: U8) -> U8:
    """Return the luminance uint8[..., H, W] of RGB pictures uint8[..., H, W, 3] (ITU-R BT.601, whole numbers as OpenCV rounds them)."""
    weighted = pictures.astype(np.uint32) @ np.array([9798, 19235, 3735], np.uint32)
    return ((weighted + 16384) >> 15).astype(np.uint8)


def dense_flow(first: U8, second: U8) -> F32:
    """Return the flow between two luminance pictures uint8[H, W]: dense inverse search, medium preset (Kroeger and others, 2016).

    Pictures of up to `_SMALL` pixels are matched down to single pixels, larger ones at half resolution.

    Raises:
        UsageError: the pictures differ in size or are too small.
    """
    import cv2

    if first.shape != second.shape or min(first.shape) < LEAST:
        raise UsageError(f"flow between {first.shape} and {second.shape} pixels: use one size of at least {LEAST} a side")
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0 if min(first.shape) <= _SMALL else 1)
    return search.calc(np.ascontiguousarray(first), np.ascontiguousarray(second), None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def camera_shift(flow: F32) -> tuple[float, float]:
    """Return how far the background went, in pixels: the median of flow in a border around the picture.

    Wrong where more than half of the border moves by itself: an arm that fills it, or a camera on the hand.
    """
    height, width = flow.shape[:2]
    edge = max(1, round(_BORDER * min(height, width)))
    inside = np.ones((height, width), bool)
    inside[edge : height - edge, edge : width - edge] = False
    across, down = np.median(flow[inside], axis=0)
    return float(across), float(down)


def affine(flow: F32) -> npt.NDArray[np.float64]:
    """Return the best affine motion float64[2, 3]: rows are horizontal and vertical flow as `a + b x + c y`, x and y from -1 to 1."""
    height, width = flow.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis = np.stack([np.ones(height * width), x.ravel(), y.ravel()], 1)
    # An even grid's basis is orthogonal, so that every coefficient is one projection.
    return (basis.T @ flow.reshape(-1, 2).astype(np.float64)).T / np.square(basis).sum(0)


def describe(flow: F32, cells: int = CELLS) -> F32:
    """Return flow in `2 * cells**2 + 6` numbers, float32: its mean in a grid of cells, row by row, then `affine`.

    Horizontal flow is a fraction of the width, vertical flow of the height, so that pictures of all sizes compare.
    """
    height, width = flow.shape[:2]
    scaled = flow / np.array([width, height], np.float32)
    rows, columns = (np.linspace(0, n, cells + 1).round().astype(int) for n in (height, width))
    means = [
        scaled[rows[i] : rows[i + 1], columns[j] : columns[j + 1]].mean(axis=(0, 1), dtype=np.float64)
        for i in range(cells)
        for j in range(cells)
    ]
    return np.concatenate([np.concatenate(means), affine(scaled).ravel()]).astype(np.float32)
