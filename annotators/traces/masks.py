"""An episode as a calibrated camera sees it, and which of its mask values is which object."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotators.clips import Clip
from annotators.traces.views import View
from transforms.rotation import F64


@dataclass(frozen=True, slots=True)
class Seen:
    """An episode as it is looked at: its rows, camera, mask clip (None: no masks), where objects and the tip are in the camera's base frame."""

    rows: slice
    view: View
    clip: Clip | None
    places: dict[str, F64]


def name_masks(look: Seen) -> dict[int, str]:
    """Return which mask value is which object: the one most often under its projected centre; the background is none."""
    if look.clip is None:
        return {}
    votes: dict[str, Counter[int]] = {label: Counter() for label in look.places}
    for step in np.flatnonzero(np.diff(look.clip.seen, prepend=-1) > 0).tolist():
        picture = look.clip.pictures[look.clip.seen[step]]
        for label, place in look.places.items():
            value = under(look.view, picture, place[:, step : step + 1], step)
            if value:
                votes[label][value] += 1
    best = {label: count.most_common(1)[0] for label, count in votes.items() if count}
    named: dict[int, str] = {}
    for label, (value, _) in sorted(best.items(), key=lambda item: (-item[1][1], item[0])):
        named.setdefault(value, label)
    return dict(sorted(named.items()))


def under(view: View, picture: np.ndarray[Any, Any], place: F64, step: int) -> int:
    """Return the mask value where a point float64[3, 1] is seen at a step; 0 outside of the picture."""
    pixel, ahead = view.track(place, step)
    tall, wide = picture.shape
    if not ahead[0]:
        return 0
    column, row = np.floor((pixel[:, 0] + 0.5) / picture_size(view) * [wide, tall]).astype(int)
    return int(picture[row, column]) if 0 <= column < wide and 0 <= row < tall else 0


def picture_size(view: View) -> F64:
    """Return width and height of the camera's picture in pixels, float64[2]."""
    return np.array([view.camera.width, view.camera.height], np.float64)
