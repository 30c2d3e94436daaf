"""The LeRobot exporter keeps what every exporter promises."""

import pytest

from pipelines.exporters.lerobot import LeRobotExporter
from tests.contracts.exporter import ExporterContract


class TestLeRobotExporter(ExporterContract):
    @pytest.fixture
    def exporter(self) -> LeRobotExporter:
        return LeRobotExporter()
