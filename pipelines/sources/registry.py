"""The known source adapters, in the order in which `--kind auto` asks them."""

from typing import Any

from pipelines.sources.base import Source, SourceOptions
from schemas.errors import MalformedSourceError
from schemas.registry import Registry

SOURCES = Registry(
    "source",
    "cotrain.sources",
    {
        "recording": "pipelines.sources.recording:RecordingSource",
        "lerobot": "pipelines.sources.lerobot:LeRobotSource",
        "rlds": "pipelines.sources.rlds:RldsSource",
        "hdf5": "pipelines.sources.hdf5:Hdf5Source",
        "bag": "pipelines.sources.bag:BagSource",
        "zarr": "pipelines.sources.replay_buffer:ReplayBufferSource",
        "neon": "pipelines.sources.gaze:NeonSource",
        "hot3d": "pipelines.sources.gaze:Hot3dSource",
        "aria": "pipelines.sources.gaze:AriaSource",
        "tobii": "pipelines.sources.gaze:TobiiSource",
        "pupil": "pipelines.sources.gaze:PupilSource",
        "egtea": "pipelines.sources.gaze:EgteaSource",
        "ego4d_gaze": "pipelines.sources.gaze:Ego4dGazeSource",
        "human_video": "pipelines.sources.human_video:HumanVideoSource",
    },
)


def open_source(uri: str, options: SourceOptions, kind: str = "auto") -> Source:
    """Return the adapter called `kind`, or the first that recognises `uri`.

    Raises:
        UnknownNameError: no adapter has that name.
        MalformedSourceError: no adapter recognises `uri`.
    """
    if kind != "auto":
        return _open(SOURCES.load(kind), uri, options)
    for name in SOURCES.names():
        adapter = SOURCES.load(name)
        if adapter.recognises(uri):
            return _open(adapter, uri, options)
    raise MalformedSourceError(
        f"{uri} is none of the formats cotrain reads ({', '.join(SOURCES.names())}); name the format with --kind", uri=uri
    )


def _open(adapter: Any, uri: str, options: SourceOptions) -> Source:
    source: Source = adapter(uri=uri, options=options)
    return source
