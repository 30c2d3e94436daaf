"""Packets appended to an mp4 come out as they went in, on an exact grid."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.shards.demux import demux
from pipelines.shards.encode import encode_png
from pipelines.shards.mux import Mp4Writer, Run
from schemas.errors import CorruptMediaError
from tests.support.video import read_barcode, write_video


def run_of(path: Path, numbers: list[int], fps: int = 20, codec: str = "libx264", **options: str) -> Run:
    return Run.of(demux(str(write_video(path, numbers, fps, codec, **options))).whole("front"))


@pytest.mark.parametrize(
    ("codec", "options", "delay"), [("libx264", {}, 2), ("libx264", {"bf": "0"}, 0), ("libsvtav1", {"preset": "12"}, 0)]
)
@pytest.mark.parametrize("fps", [30, 7, 1000])
def test_runs_are_appended_bit_by_bit_on_the_grid(
    tmp_path: Path, codec: str, options: dict[str, str], delay: int, fps: int
) -> None:
    runs = [run_of(tmp_path / f"{n}.mp4", list(range(n * 20, n * 20 + 11 + n)), codec=codec, **options) for n in range(3)]
    assert [r.delay for r in runs] == [delay] * 3
    with Mp4Writer(tmp_path / "all.mp4", fps) as writer:
        starts = [writer.append(r) for r in runs]
    assert starts == [0, 11, 23]
    with av.open(str(tmp_path / "all.mp4")) as container:
        stream = container.streams.video[0]
        found = [p for p in container.demux(stream) if p.size]
        assert [bytes(p) for p in found] == [bytes(d) for r in runs for d in r.data]
        assert [p.is_keyframe for p in found] == [bool(k) for r in runs for k in r.key]
        assert sorted(p.pts * stream.time_base for p in found) == [Fraction(n, fps) for n in range(36)]
        assert all(p.dts <= p.pts for p in found)
    with av.open(str(tmp_path / "all.mp4")) as container:
        shown = [(f.pts * f.time_base, read_barcode(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)]
    numbers = [n * 20 + k for n in range(3) for k in range(11 + n)]
    assert shown == [(Fraction(n, fps), number) for n, number in enumerate(numbers)]


def test_a_run_that_starts_inside_a_group_of_pictures_keeps_what_it_needs_and_says_where_it_begins(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", list(range(20)), g="10")
    run = Run.of(demux(str(path)).span("front", 6 / 20, 16 / 20))
    assert run.hidden >= 6
    with Mp4Writer(tmp_path / "o.mp4", 20) as writer:
        first = writer.append(run)
    assert first == run.first
    with av.open(str(tmp_path / "o.mp4")) as container:
        shown = {round(f.time * 20): read_barcode(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)}
    assert [shown[first + n] for n in range(10)] == list(range(6, 16))


def test_only_runs_with_equal_parameters_fit(tmp_path: Path) -> None:
    plain = run_of(tmp_path / "a.mp4", list(range(8)), bf="0")
    other, reordered = run_of(tmp_path / "b.mp4", list(range(8)), codec="libsvtav1"), run_of(tmp_path / "c.mp4", list(range(8)))
    with Mp4Writer(tmp_path / "o.mp4", 20) as writer:
        assert writer.fits(other)
        writer.append(plain)
        assert writer.fits(plain)
        assert not writer.fits(other)
        assert not writer.fits(reordered)
        assert not writer.fits(replace(plain, header=replace(plain.header, width=62)))
        assert writer.fits(replace(plain, header=replace(plain.header, time_base=(1, 7), fps=3.0)))


def test_codecs_an_mp4_cannot_hold_are_refused(tmp_path: Path) -> None:
    run = Run.of(encode_png("labels", np.zeros((2, 4, 4), np.uint8), np.arange(2)))
    with Mp4Writer(tmp_path / "o.mp4", 20) as writer, pytest.raises(CorruptMediaError, match="cannot hold png packets"):
        writer.append(run)
    assert not (tmp_path / "o.mp4").exists()
