"""The recordings that the reading benchmark reads: one film as JPEG, H.264 and AV1, in lakes, as a LeRobot dataset and as RLDS."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recording import CAMERAS, FPS, SECOND, FilmSource, export_job, film, vectors

EPISODES, LENGTH, SIDE, HORIZON = 50, 200, 256, 16
WINDOW, RUN = 16, 24  # block order: 16 blocks of 24 steps, shuffled together
CODECS = ("jpeg", "h264-gop2", "h264-gop8", "av1-gop2")
MANY, FEW, SHORT = 2000, 50, 25  # episodes and steps of the sets that tell whether cost depends on a set's size, in `SIZED`
SIZED = "h264-gop2"
DRAWS = 1 << 24


@dataclass(frozen=True)
class CodedFilm(FilmSource):
    """The benchmark's film in one of `CODECS`; every episode holds the same pictures, which is the same work for a decoder."""

    codec: str = "jpeg"

    def contract(self) -> Any:
        from schemas.contract import Camera

        return replace(super().contract(), cameras=tuple(Camera(c, width=self.side, height=self.side) for c in CAMERAS))

    def read(self, group: Any) -> Iterator[Any]:  # noqa: ARG002
        from pipelines.shards.draft import EpisodeDraft, build_steps

        times, order = np.arange(self.length) * SECOND // FPS, np.arange(self.length, dtype=np.int32)
        tracks = tuple(_track(self.codec, c, film(n, self.length, self.side), times) for n, c in enumerate(CAMERAS))
        for number in range(self.episodes):
            state, action = vectors(number, self.length)
            columns = {"observation.state": state, "action": action}
            steps = build_steps(self.contract(), times, columns, language="task", frames=dict.fromkeys(CAMERAS, order))
            yield EpisodeDraft(str(number), steps, tracks, success=True, uri=f"film://{number}")


def build_lake(folder: Path, codec: str, episodes: int, length: int = LENGTH) -> Any:
    """Ingest the film and pin two mixtures of it: drawn at random, and drawn in blocks.

    Every episode shows the same pictures, encoded once, and has rows and packets of its own: a set of 2 000 is 2 000 times the bytes.
    """
    from catalog.lake import Lake
    from pipelines.executors import Execution
    from pipelines.ingest import IngestStage
    from pipelines.mixture.mix import mix
    from pipelines.sources.base import SourceOptions
    from pipelines.unit import run_stage
    from schemas.mixture import LocalitySpec, MixtureSpec, SourceSpec, WindowSpec

    lake = Lake.at(folder)
    source = CodedFilm("film://", SourceOptions("film"), episodes, length, SIDE, codec=codec)
    run_stage(IngestStage(lake, source, check="none"), execution=Execution(workers=0))
    windows = WindowSpec(observation_s=(-1 / FPS, 0.0), action_horizon_s=HORIZON / FPS)
    for name, locality in (("random", None), ("blocks", LocalitySpec(WINDOW, RUN))):
        mix(lake, MixtureSpec(name, DRAWS, (SourceSpec("film"),), windows=windows, statistics=False, locality=locality))
    return lake


def export_lerobot(lake: Any, root: Path) -> None:
    """Remux the same packets into a LeRobot v3.0 dataset."""
    from pipelines.exporters.base import ExportOptions
    from pipelines.exporters.lerobot import LeRobotExporter

    root.mkdir()
    LeRobotExporter().export(export_job(lake, root, ExportOptions(image_frames=1)))


def export_rlds(lake: Any, root: Path) -> None:
    """Copy the same JPEG bytes into RLDS, as TFDS reads it."""
    from pipelines.exporters.base import ExportOptions
    from pipelines.exporters.rlds import RldsExporter

    root.mkdir()
    RldsExporter().export(export_job(lake, root, ExportOptions(split="none", rlds_mb=32)))


def _track(codec: str, camera: str, frames: np.ndarray, times: np.ndarray) -> Any:
    from pipelines.shards.draft import TrackDraft
    from pipelines.shards.encode import encode_h264
    from schemas.shards import CodecHeader

    if codec.startswith("h264"):
        return encode_h264(camera, frames, times, FPS, gop=int(codec[-1]))
    if codec.startswith("av1"):
        return replace(_av1(camera, frames), pts_ns=times)
    import simplejpeg

    data = [simplejpeg.encode_jpeg(f, 90, colorsubsampling="420") for f in frames]
    order = np.arange(len(frames), dtype=np.int32)
    return TrackDraft(camera, CodecHeader("mjpeg", width=SIDE, height=SIDE), order, times, np.ones(len(frames), np.bool_), data)


def _av1(camera: str, frames: np.ndarray) -> Any:
    import av

    from pipelines.shards.demux import demux

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "film.mp4")
        options = {"preset": "12", "crf": "30", "g": "2", "svtav1-params": "lp=1"}
        with av.open(path, "w") as out:
            stream: Any = out.add_stream("libsvtav1", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
        return demux(path).whole(camera)
