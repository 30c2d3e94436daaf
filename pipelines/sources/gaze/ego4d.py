"""Ego4D's gaze: `<video uid>.csv` beside or below the canonical video `<video uid>.mp4`, in seconds of the video's own clock.

`norm_pos` counts from the lower left corner, 0 to 1, as Pupil's software wrote it; `gaze` starts with the same point in pixels from the
upper left. Format: ego4d-data.org, gaze. Videos without gaze are for `human_video`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipelines.sources.base import natural_key
from pipelines.sources.gaze.base import PIXELS, SCENE, Declared, Place, Signal, Take
from pipelines.sources.gaze.media import look_camera, read_media
from pipelines.sources.gaze.signals import Columns, read_columns
from pipelines.sources.gaze.table import head_of, header_of, read_csv
from pipelines.sources.tree import Tree
from pipelines.unit import Reject
from schemas.contract import Stream
from schemas.errors import MalformedSourceError

TIME, NORM = "canonical_timestamp_s", ("norm_pos_x", "norm_pos_y")
MARKS = {TIME, *NORM, "confidence"}
GAZE = Columns(
    Stream("gaze", unit="x, y px; norm_pos 0..1 from the lower left; 3d mm", frame=SCENE), TIME, "decimal",
    skip=("component_idx", "component_timestamp_s", "base_data"),
)  # fmt: skip
LOOKS = 64  # tables whose first line is looked at when recognising


@dataclass(frozen=True, slots=True)
class Ego4d:
    """The family has no settings. One episode per table of gaze."""

    def places(self, tree: Tree) -> list[Place]:
        """Find tables of gaze by their first line, and the videos of the same name."""
        names = tree.names()
        tables = [n for n in names if n.endswith(".csv")]
        if not any(_is_gaze(tree, n) for n in tables[:LOOKS]):
            return []
        videos = {_stem(n): n for n in names if n.lower().endswith(".mp4")}
        places: list[Place] = []
        for name in sorted((n for n in tables if _is_gaze(tree, n)), key=natural_key):
            video = videos.get(_stem(name), "")
            places.append(Place(_stem(name), "", tuple(f for f in (video, name) if f), payload=(video, name)))
        return places

    def declare(self, tree: Tree, place: Place) -> Declared:
        """Return the scene camera and the gaze columns."""
        video, table = place.payload
        stream = GAZE.declared(head_of(tree, table))
        if not video:
            return Declared((), (stream,))
        return Declared((look_camera(str(tree.path(video)), SCENE, "ego"),), (replace(stream, names=(*PIXELS, *stream.names)),))

    def read(self, tree: Tree, place: Place) -> Iterator[Take | Reject]:
        """Yield one video's take."""
        video, table = place.payload
        notes: list[str] = []
        gaze, uri = read_columns(GAZE, read_csv(tree, table), notes), tree.uri(video or table)
        if not len(gaze.t_ns):
            raise MalformedSourceError(f"{tree.uri(table)} holds no sample", uri=tree.uri(table))
        if video:
            media = read_media(str(tree.path(video)), SCENE)
            notes += media.notes
            header = media.main.header
            tracks, clock, gaze = media.tracks, media.main.times_ns(), _pixels(gaze, header.width, header.height)
        else:
            notes.append(f"there is no video {place.key}.mp4: each gaze sample is a step")
            tracks, clock = (), np.unique(gaze.t_ns)
        yield Take(place.key, uri, clock, tracks, (gaze,), split_group=place.key, notes=tuple(notes))


def _pixels(signal: Signal, width: int, height: int) -> Signal:
    names = signal.stream.names
    assert signal.values is not None
    x, y = (signal.values[:, names.index(n)] for n in NORM)
    wide = np.column_stack([x * width, (1 - y) * height, signal.values])
    return replace(signal, stream=replace(signal.stream, names=(*PIXELS, *names)), values=wide)


def _is_gaze(tree: Tree, name: str) -> bool:
    return set(header_of(tree, name)) >= MARKS


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]
