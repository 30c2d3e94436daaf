"""The RLDS exporter keeps what every exporter promises."""

import pytest

from pipelines.exporters.rlds import RldsExporter
from tests.contracts.exporter import ExporterContract


class TestRldsExporter(ExporterContract):
    @pytest.fixture
    def exporter(self) -> RldsExporter:
        return RldsExporter()
