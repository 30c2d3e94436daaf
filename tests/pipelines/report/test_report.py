"""The report, from a lake of barcode videos: the pictures, the strips' places, the tables, and that nothing is left unescaped."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.report.contact_sheet import contact_sheet
from pipelines.report.html import build_report, write_report
from pipelines.report.model import Command, ExportSummary, MixtureShare, MixtureSummary, ReportInput, Segment, StageTime, segments
from pipelines.report.motions import motion_segments
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from pipelines.sources.human_video import HumanVideoSource
from pipelines.unit import run_stage
from schemas.contract import Camera
from schemas.errors import UsageError
from schemas.ids import episode_id
from tests.support.toys import ToySource, ingest_toy
from tests.support.video import read_barcode, write_video

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps what is visible and where pictures and links point."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.blocks: list[dict[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {k: v or "" for k, v in attrs}
        self.targets += [values[k] for k in ("src", "href") if k in values]
        self.ids |= {values["id"]} if "id" in values else set()
        if tag == "span" and "title" in values:
            self.blocks.append(values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""


def rendered(lake: Lake, **more: Any) -> Page:
    return Page(build_report(lake, Catalog(lake), ReportInput("Toy lake", **more)))


@pytest.fixture
def toy(lake: Lake) -> Lake:
    ingest_toy(lake, ToySource(broken=(3,)))
    return lake


def test_a_sheet_shows_the_middle_of_each_part(lake: Lake) -> None:
    ingest_toy(lake)
    row = Catalog(lake).latest("episodes").collect().filter(key="0").row(0, named=True)
    shard = open_shard(lake, "toy", row["shard"])
    sheet = contact_sheet(shard, row["episode_id"], Camera("wrist"), frames=4, tile=64)
    image = simplejpeg.decode_jpeg(sheet.jpeg)
    assert image.shape == (64, 256, 3)
    # 12 frames at 20 Hz: the middles of four parts of 0.15 s fall into frames 1, 4, 7, 10; wrist frames carry n + 1000.
    assert [read_barcode(image[:, i * 64 : (i + 1) * 64]) for i in range(4)] == [1001, 1004, 1007, 1010]
    assert sheet.times_s == (0.05, 0.2, 0.35, 0.5)


def test_a_sheet_without_pictures_is_refused(lake: Lake) -> None:
    ingest_toy(lake)
    row = Catalog(lake).latest("episodes").collect().row(0, named=True)
    with pytest.raises(UsageError, match="at least one frame"):
        contact_sheet(open_shard(lake, "toy", row["shard"]), row["episode_id"], Camera("wrist"), frames=0)


def test_the_page_stands_alone(toy: Lake) -> None:
    page = rendered(toy)
    assert page.targets
    assert all(t.startswith(("data:image/jpeg;base64,", "#")) for t in page.targets)
    assert {t[1:] for t in page.targets if t.startswith("#")} <= page.ids
    assert sum(t.startswith("data:") for t in page.targets) == 4  # two episodes, two cameras


def test_totals_sources_and_quarantine_come_from_the_catalog(toy: Lake) -> None:
    page = rendered(toy)
    text = re.sub(r"\s+", " ", page.text)
    assert "toy_arm · 3 episodes · 36 steps · 1.8 s · cameras front, wrist · licence Apache-2.0" in text
    assert "broken on purpose" in text
    assert "CorruptMediaError" in text
    assert "100 % succeed" in text
    assert "“task 0”" in text
    assert "“task 1”" in text, "episodes shown differ in their task"


def test_motion_segments_lie_on_the_sheets_time_axis(toy: Lake) -> None:
    name = episode_id("toy", "0")  # 12 steps at 20 Hz: 0.6 s
    strip = segments([(0.0, "move up"), (0.15, "hold still"), (0.3, "move up"), (0.45, "close gripper")], 0.6)
    page = rendered(toy, motions={name: strip})
    first = page.blocks[:4]
    assert [b["style"] for b in first] == [f"left:{25 * i:.3f}%;width:25.000%" for i in range(4)]
    assert first[0]["class"] == first[2]["class"] != first[3]["class"]
    assert first[1]["class"] == "quiet"
    assert first[3]["title"] == "0.45 to 0.60 s: close gripper"
    assert "4 motion segments in words" in page.text


def test_motions_are_read_from_the_annotations_with_their_gaps(lake: Lake) -> None:
    ingest_toy(lake, ToySource(per_group=4))
    catalog, name = Catalog(lake), episode_id("toy", "0")
    (shard,) = catalog.latest("episodes").collect()["shard"].unique()
    spans = [
        ("up", 0, 2, True),
        ("up", 2, 3, True),
        ("still", 3, 4, True),
        (None, 4, 5, False),
        ("up", 5, 6, True),
        (None, 6, 9, False),
    ]
    table = pa.table({
        "episode_id": [name] * len(spans), "text": [s[0] for s in spans], "start_ns": [s[1] * 10**8 for s in spans],
        "end_ns": [s[2] * 10**8 for s in spans], "valid": [s[3] for s in spans],
    })  # fmt: skip
    path = Path(lake.annotation("language_motion", "fp-1", shard))
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    row = {
        "annotator": "language_motion",
        "fingerprint": "fp-1",
        "shard": shard,
        "dataset": "toy",
        "uri": lake.relative(str(path)),
    }
    catalog.append("annotations", pa.Table.from_pylist([row]), "u-1")
    assert motion_segments(catalog) == {name: (Segment(0.0, 0.3, "up"), Segment(0.3, 0.4, "still"), Segment(0.5, 0.6, "up"))}
    assert motion_segments(Catalog(Lake.at(f"{lake.root}-empty"))) == {}


def test_human_video_shows_its_narrations(lake: Lake, tmp_path: Path) -> None:
    write_video(tmp_path / "in/a.mp4", list(range(20)))
    (tmp_path / "in/a.csv").write_text("start_s,end_s,text\n0.25,0.5,<b>reach & grasp</b>\n")
    source = HumanVideoSource(str(tmp_path / "in"), SourceOptions("hands"))
    run_stage(IngestStage(lake, source), execution=Execution(workers=0))
    html = build_report(lake, Catalog(lake), ReportInput("Hands"))
    page = Page(html)
    (block,) = page.blocks
    assert block["style"] == "left:25.000%;width:25.000%"
    assert "<b>reach & grasp</b>" in page.text
    assert "<b>reach" not in html
    assert "&lt;b&gt;reach &amp; grasp" in html


def test_mixture_exports_stages_and_commands_are_shown(toy: Lake) -> None:
    share = MixtureShare("sim", 0.5, 0.75, 0.7501, 1200, 10, 400, 3.0, None, "takes up what capped sources leave")
    capped = MixtureShare("human", 0.5, 0.25, 0.2499, 400, 2, 800, 0.5, 0.5, "held at its cap")
    text = rendered(
        toy,
        mixture=MixtureSummary("demo", "abc123", 1600, (share, capped)),
        exports=(
            ExportSummary("sim", "lerobot", "/x/sim", 10, 400, 5_000_000, copied=800, reader="LeRobotDataset", steps_compared=400,
                          frames_compared=80, differences=0),
            ExportSummary("sim", "rlds", "/y/sim", 10, 400, 10, differences=7),
            ExportSummary("g1", "rlds", "/y/g1", 3, 9, 10),
        ),
        stages=(StageTime("ingest", 2.25, "three sources"),),
        commands=(Command("cotrain ls", "what is there"),),
    ).text  # fmt: skip
    for piece in ("75.01 %", "24.99 %", "held at its cap", "verified, 0 differences", "7 differences", "not verified", "5.0 MB",
                  "LeRobotDataset read back 400 steps and 80 pictures", "2.2", "three sources", "cotrain ls"):  # fmt: skip
        assert piece in text, piece


def test_exports_and_mixture_are_taken_from_the_catalog(toy: Lake) -> None:
    catalog = Catalog(toy)
    report = {
        "plan": {"dataset": "toy"}, "export": {"copied": 36},
        "verify": {"reader": "LeRobotDataset", "steps_compared": 36, "frames_compared": 6, "differences": []},
    }  # fmt: skip
    row = {
        "uri": "/exports/toy",
        "format": "lerobot",
        "episodes": 3,
        "rows": 36,
        "bytes": 1234,
        "verified": True,
        "report": json.dumps(report),
    }
    catalog.append("publications", pa.Table.from_pylist([row]), "u-1")
    share = {"name": "toy", "where": "toy", "asked": 1.0, "target": 1.0, "realised": 1.0, "draws": 100, "episodes": 3, "steps": 36,
             "epochs": 2.78, "max_epochs": None, "note": "", "quota": 1}  # fmt: skip
    mixed = {"name": "mine", "hash": "f00", "samples": 100, "shares": json.dumps([share])}
    catalog.append("mixtures", pa.Table.from_pylist([mixed]), "u-2")
    text = rendered(toy).text
    for piece in ("verified, 0 differences", "36 pictures copied", "read back 36 steps and 6 pictures", "mine", "2.78"):
        assert piece in text, piece


def test_an_empty_lake_has_a_page_too(lake: Lake) -> None:
    text = rendered(lake).text
    assert "The lake holds no episodes yet." in text
    assert "Nothing was rejected." in text


def test_a_camera_that_does_not_decode_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """One damaged picture costs its sheet, not the page."""
    ingest_toy(lake)
    from pipelines.shards import reader
    from schemas.errors import CorruptMediaError

    real = reader.decode_rgb

    def damaged(track: Any, *args: Any) -> Any:
        if track.info.camera == "wrist":
            raise CorruptMediaError("frame 3 of camera wrist is damaged")
        return real(track, *args)

    monkeypatch.setattr(reader, "decode_rgb", damaged)
    page = rendered(lake)
    assert "frame 3 of camera wrist is damaged" in page.text
    assert sum(t.startswith("data:") for t in page.targets) == 2


def test_a_report_is_written_and_replaced(lake: Lake) -> None:
    file = write_report(lake, "demo", "<p>one</p>")
    assert file.path == "reports/demo.html"
    write_report(lake, "demo", "<p>two</p>")
    assert Path(lake.report("demo.html")).read_text() == "<p>two</p>"
    with pytest.raises(UsageError, match="cannot name a report"):
        write_report(lake, "../evil", "")


def test_segments_merge_equal_neighbours_and_stay_inside() -> None:
    rows = [(0.5, "b"), (0.0, "a"), (0.2, "a"), (0.7, ""), (0.9, "c"), (3.0, "late")]
    assert segments(rows, 1.0) == (Segment(0.0, 0.5, "a"), Segment(0.5, 0.7, "b"), Segment(0.9, 1.0, "c"))
    assert segments([], 1.0) == ()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one episode"):
        ReportInput("x", frames=0)


def test_a_slow_camera_shows_the_nearest_picture_of_each_part() -> None:
    from pipelines.report.contact_sheet import _evenly

    times = np.arange(40, dtype=np.int64) * 50_000_000
    shown = np.arange(40) % 4 == 0
    at = _evenly(times, shown, 4)
    assert shown[at].all()
    assert (np.abs(at - np.array([5, 15, 25, 35])) <= 2).all()
    assert _evenly(times, np.arange(40) == 0, 4).tolist() == [0, 15, 25, 35], "a part without a picture stays empty"


def test_masks_are_coloured_by_id() -> None:
    from pipelines.report.contact_sheet import _coloured

    picture = _coloured(np.array([[[0, 1, 2, 1]]], np.uint8))[0, 0]
    assert (picture[1] == picture[3]).all()
    assert len({tuple(p) for p in picture.tolist()}) == 3
