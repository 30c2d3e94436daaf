"""What every exporter promises. Inherit `ExporterContract` and override the `exporter` fixture."""

from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from pipelines.export import ExportPlan, build_job
from pipelines.exporters.base import ExportOptions, ExportReport
from pipelines.publish import seal_of
from pipelines.selection import choose
from schemas.ids import is_slug
from tests.support.toys import LENGTHS, ingest_toy


class ExporterContract:
    @pytest.fixture
    def exporter(self) -> Any:
        """An instance of the exporter under test."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def toy(self, lake: Lake) -> Lake:
        ingest_toy(lake)
        return lake

    def export(self, exporter: Any, lake: Lake, folder: Path) -> ExportReport:
        from dataclasses import asdict

        ids = tuple(choose(lake, "all").episodes["episode_id"].to_list())
        folder.mkdir()
        plan = ExportPlan(exporter.name, "toy", str(folder), ids, asdict(ExportOptions()))
        self.told: list[int] = []
        return exporter.export(build_job(lake, plan, folder), self.told.append)

    def test_has_a_name_and_a_version(self, exporter: Any) -> None:
        assert is_slug(exporter.name)
        assert exporter.version

    def test_reports_what_it_wrote(self, exporter: Any, toy: Lake, tmp_path: Path) -> None:
        report = self.export(exporter, toy, tmp_path / "out")
        files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
        assert (report.episodes, report.rows) == (len(LENGTHS), sum(LENGTHS))
        assert (report.files, report.bytes) == (len(files), sum(p.stat().st_size for p in files))
        assert report.copied + report.transcoded == 2 * sum(LENGTHS)

    def test_tells_of_every_episode(self, exporter: Any, toy: Lake, tmp_path: Path) -> None:
        self.export(exporter, toy, tmp_path / "out")
        assert self.told == list(range(1, len(LENGTHS) + 1))

    def test_the_same_job_gives_the_same_bytes(self, exporter: Any, toy: Lake, tmp_path: Path) -> None:
        for name in ("a", "b"):
            self.export(exporter, toy, tmp_path / name)
        first, second = (
            {str(p.relative_to(tmp_path / n)): seal_of(p) for p in (tmp_path / n).rglob("*") if p.is_file()} for n in ("a", "b")
        )
        assert first == second

    def test_touches_nothing_outside_its_folder(self, exporter: Any, toy: Lake, tmp_path: Path) -> None:
        before = set(tmp_path.rglob("*"))
        self.export(exporter, toy, tmp_path / "out")
        assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "out")} == before
