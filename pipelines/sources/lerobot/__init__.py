"""LeRobot datasets as a source. Read without lerobot, pandas or datasets: JSON, parquet and mp4 are all there is."""

from pipelines.sources.lerobot.source import LeRobotSource

__all__ = ["LeRobotSource"]
