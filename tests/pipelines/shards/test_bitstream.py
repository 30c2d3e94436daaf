"""Damaged packets are found by their inner lengths, whole ones of every real recording pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.shards.bitstream import first_malformed, starts_anew
from pipelines.shards.demux import demux
from pipelines.shards.encode import encode_h264
from schemas.shards import CodecHeader
from tests.support.video import barcode, write_video

REAL = [
    "human_video/02_cups.mp4",
    "human_video/03_blocks.mp4",
    "quirk_video/h265_video.mp4",
    "quirk_video/av1_video.mkv",
    "quirk_video/video_90.mov",
    "lerobot/g1_v30_3ep/videos/observation.images.cam_high/chunk-000/file-000.mp4",
    "gaze/neon_part1/Neon Scene Camera v1 ps1.mp4",
]


@pytest.mark.parametrize("name", REAL)
def test_whole_recordings_pass(data: Path, name: str) -> None:
    found = demux(str(data / name))
    assert len(found.data) > 0
    assert first_malformed(found.header, found.data) is None


def test_the_corrupted_recording_is_found_where_it_breaks(data: Path) -> None:
    found = demux(str(data / "quirk_video/corrupted.mp4"))
    assert first_malformed(found.header, found.data) == 30


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {}), ("libx265", {"x265-params": "log-level=none"}), ("libsvtav1", {"preset": "12"})]
)
@pytest.mark.parametrize(
    "damage", [lambda p: bytes(len(p)), lambda p: p[: len(p) // 2], lambda p: p[3:] + p[:3], lambda _: b"", lambda p: p + b"\0"]
)
def test_overwritten_cut_shifted_empty_and_padded_packets_are_found(tmp_path: Path, codec: str, options: dict, damage) -> None:
    found = demux(str(write_video(tmp_path / "v.mp4", list(range(8)), codec=codec, **options)))
    assert first_malformed(found.header, found.data) is None
    broken = [*found.data[:5], damage(found.data[5]), *found.data[6:]]
    assert first_malformed(found.header, broken) == 5


def test_codecs_without_inner_lengths_are_not_judged() -> None:
    assert first_malformed(CodecHeader("mjpeg"), [b"anything"]) is None
    assert first_malformed(CodecHeader("h264", extradata=b"\0\0\0\1gone"), [b"annex b"]) is None


def test_pictures_that_start_anew_are_told_by_their_nal_type() -> None:
    film = encode_h264("c", np.stack([barcode(n) for n in range(9)]), np.arange(9), 20, gop=4)
    assert [starts_anew(film.header, data) for data in film.data] == [n % 4 == 0 for n in range(9)]
    assert starts_anew(film.header, memoryview(film.data[4]))
    assert not starts_anew(replace(film.header, codec="hevc"), film.data[0])
    assert not starts_anew(replace(film.header, extradata=b"\0\0\0\1"), film.data[0])  # start codes carry no lengths
    assert not starts_anew(film.header, b"")
