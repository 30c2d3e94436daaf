"""Eye trackers and egocentric headsets: recordings of many clocks, each signal kept on its own. One module per device family."""

from pipelines.sources.gaze.source import (
    AriaSource,
    Ego4dGazeSource,
    EgteaSource,
    Hot3dSource,
    NeonSource,
    PupilSource,
    TobiiSource,
)

__all__ = ["AriaSource", "Ego4dGazeSource", "EgteaSource", "Hot3dSource", "NeonSource", "PupilSource", "TobiiSource"]
