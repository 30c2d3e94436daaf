"""Seeded damage to every family's files: each planned episode ends as an episode or a reject, and nothing else escapes."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.sources.gaze import Ego4dGazeSource, EgteaSource, Hot3dSource, NeonSource, PupilSource, TobiiSource
from pipelines.unit import Reject
from schemas.errors import CotrainError
from tests.pipelines.sources import (
    test_gaze_ego4d,
    test_gaze_egtea,
    test_gaze_hot3d,
    test_gaze_neon,
    test_gaze_pupil,
    test_gaze_tobii,
)
from tests.pipelines.sources.gaze_files import options

TRIES = 12
JUNK = (b"null", b"[]", b"{}", b"-1", b"1e999", b'"x"', b"NaN", b"", b"\0", b"\xff\xfe", b"9" * 23, b",", b"\n", b"\t", b":")
TOKEN = re.compile(rb'"[^"]*"|-?\d+\.?\d*|\[[^\[\]]*\]|\{[^{}]*\}')
MAKERS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "neon": (NeonSource, test_gaze_neon.recording),
    "cloud": (PupilSource, test_gaze_pupil.cloud),
    "core": (PupilSource, test_gaze_pupil.core),
    "g2": (TobiiSource, lambda folder: test_gaze_tobii.g2(folder, name="livedata.json")),
    "g3": (TobiiSource, test_gaze_tobii.g3),
    "egtea": (EgteaSource, test_gaze_egtea.dataset),
    "ego4d": (Ego4dGazeSource, test_gaze_ego4d.recording),
    "clip": (Hot3dSource, lambda folder: test_gaze_hot3d.tar(folder / "clip-000001.tar", test_gaze_hot3d.clip_files())),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    tokens = list(TOKEN.finditer(data[:100_000]))
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.choice(JUNK) + data[at + rng.randrange(40) :]
        case 2:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case _:
            token = rng.choice(tokens) if tokens else None
            return data if token is None else data[: token.start()] + rng.choice(JUNK) + data[token.end() :]


@pytest.mark.parametrize("kind", MAKERS)
def test_damage_ends_in_an_episode_or_a_reject(tmp_path: Path, kind: str) -> None:
    adapter, make = MAKERS[kind]
    make(tmp_path)
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    for seed in range(TRIES):
        rng = random.Random(f"{kind}{seed}")
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, rng))
        source = adapter(str(tmp_path), options())
        try:
            source.contract()
            groups = source.groups()
        except CotrainError:
            groups = []  # the plan is quarantined with the reason
        for group in groups:
            found = sum(i.episodes if isinstance(i, Reject) else 1 for i in source.read(group))
            assert found == group.episodes, (seed, file)
        file.write_bytes(whole)


def test_times_beyond_every_clock_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = test_gaze_neon.recording(tmp_path / "r")
    test_gaze_neon.times(folder / "gaze ps1.time", [1, 2**62, -(2**63), test_gaze_neon.START, 2**63 - 1])
    (draft,) = [d for g in NeonSource(str(folder), options()).groups() for d in NeonSource(str(folder), options()).read(g)]
    assert not isinstance(draft, Reject)
    assert any("3 samples of stream gaze have times that no clock shows" in n for n in draft.notes)
