"""Gathers what quality scores look at of one episode: steps, clocks, movements, and its pictures, a few per second."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.lint.evidence import CHUNK, SIDE, UNSEEN, LintSettings, facts_of_row, gather
from pipelines.shards.reader import Shard
from schemas.errors import DataError
from transforms.curation.score import Footage, Subject
from transforms.curation.segments import movements, spans_of_times
from transforms.curation.signals import read_signals
from transforms.grid import SECOND
from transforms.lint.base import Evidence

Alter = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
ROW = ("episode_id", "key", "uri", "success", "attributes", "steps")


def read_subject(
    shard: Shard, row: Mapping[str, Any], video_hz: float | None, segments: Sequence[tuple[int, int]] | None = None
) -> Subject:
    """Return one episode as scores see it.

    Args:
        shard: where it is.
        row: its row of the catalog, with the columns `ROW`.
        video_hz: pictures per second to decode of each camera; None decodes none.
        segments: `[start_ns, end_ns)` spans to score, where an annotator has made some; None cuts at rests and slow moments.
    """
    it = read_evidence(shard, row)
    signals = read_signals(it)
    spans = () if signals is None else spans_of_times(signals, list(segments)) if segments else movements(signals)
    footage, unreadable = dict[str, Footage](), dict[str, str]()
    if video_hz is not None and it.count:
        for camera in seeing_cameras(it):
            try:
                footage[camera] = read_footage(shard, it, camera, video_hz)
            except DataError as error:
                unreadable[camera] = str(error)
    return Subject(it, signals, spans, footage, unreadable)


def read_evidence(shard: Shard, row: Mapping[str, Any]) -> Evidence:
    """Return what an episode's steps and clocks say; no picture is decoded."""
    return gather(shard, row, facts_of_row(row), LintSettings(pictures=False), look=False)


def seeing_cameras(it: Evidence) -> list[str]:
    """Return the cameras that have pictures of the scene, in the contract's order."""
    return [c.name for c in it.contract.cameras if c.role not in UNSEEN and c.name in it.tracks and it.tracks[c.name].frames]


def read_footage(shard: Shard, it: Evidence, camera: str, hz: float, alter: Alter | None = None) -> Footage:
    """Decode what the steps see of one camera, at most `hz` pictures per second; `alter` may change every picture first.

    Raises:
        DataError: a picture does not decode.
    """
    import cv2

    frames, steps = chosen_frames(it, camera, hz)
    small: list[npt.NDArray[np.float32]] = []
    sharp: list[float] = []
    for at in range(0, len(frames), CHUNK):
        for picture in shard.read(it.row["episode_id"], camera, frames[at : at + CHUNK]):
            picture = picture if alter is None else alter(picture)  # noqa: PLW2901
            luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            sharp.append(float(cv2.Laplacian(luma, cv2.CV_32F).var()))
            scale = min(1.0, SIDE / max(luma.shape))
            size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
            small.append(cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32))
    luma = np.stack(small) if small else np.zeros((0, 1, 1), np.float32)
    return Footage(luma, np.array(sharp), it.t_ns[steps])


def chosen_frames(it: Evidence, camera: str, hz: float) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the frames int32[n] of a camera to look at and the steps int64[n] that see them first, about `hz` per second."""
    seen = it.seen(camera)
    steps = np.flatnonzero((seen >= 0) & np.concatenate([[True], seen[1:] != seen[:-1]]))
    if len(steps) > 1:
        period = float(np.median(np.diff(it.t_ns[steps]))) / SECOND
        steps = steps[:: max(1, round(1 / max(hz * period, 1e-9)))]
    return seen[steps], steps.astype(np.int64)
