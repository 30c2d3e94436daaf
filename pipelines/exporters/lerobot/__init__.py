"""LeRobot v3.0 as an export format, written with pyarrow and PyAV; lerobot itself is only needed to verify."""

from pipelines.exporters.lerobot.exporter import LeRobotExporter

__all__ = ["LeRobotExporter"]
