"""Each score on a recording in which its value is known."""

import numpy as np
import pytest

from tests.support.demos import CONTRACT, SECOND, demo, steps_of, subject_of
from transforms.curation.metrics import METRICS
from transforms.curation.proprio import binarise, keep_moving
from transforms.curation.score import Footage, Subject
from transforms.curation.segments import movements
from transforms.curation.signals import grip_dims, motion_dims, read_signals
from transforms.curation.video import spearman
from transforms.lint.base import Evidence, TrackFacts


def value(name: str, subject: Subject):
    return METRICS[name].compute(subject).value


def test_an_episode_is_cut_where_it_rests_and_where_the_gripper_moves() -> None:
    subject = subject_of(demo(3, 5))
    assert 5 <= len(subject.spans) <= 7
    assert all(b - a >= 20 for a, b in subject.spans)
    still = subject_of(np.tile([0.1, 0.2, 0.3, 1.0], (80, 1)))
    assert still.signals is None
    assert METRICS["ldlj"].compute(still).detail["why"] == "no motion to read"


def test_long_movements_are_cut_evenly() -> None:
    line = np.column_stack([np.linspace(0, 1, 600), np.linspace(0, 2, 600), np.zeros(600), np.ones(600)])
    spans = movements(subject_of(line).signals)
    assert len(spans) == 3
    assert max(b - a for a, b in spans) <= 201


def test_gripper_numbers_are_told_from_motion() -> None:
    state = CONTRACT.features[0]
    assert (motion_dims(state), grip_dims(state)) == ([0, 1, 2], [3])
    assert grip_dims(CONTRACT.features[1]) == [3]  # by its name alone


def test_idle_is_the_share_of_time_without_motion() -> None:
    moving = demo(1, 3)
    held = np.concatenate([moving, np.tile(moving[-1], (len(moving), 1))])
    assert value("idle", subject_of(held)) == pytest.approx(0.5 + 0.5 * value("idle", subject_of(moving)), abs=0.04)


def test_the_filter_of_openpi_counts_at_15_hz_as_published() -> None:
    idle = np.array([False] * 20 + [True] * 8 + [False] * 30 + [True] * 7 + [False] * 10 + [True] * 9 + [False] * 12)
    kept = keep_moving(idle, 15.0)
    assert not kept[20:28].any()  # 8 idle steps in a row go
    assert kept[:17].all()
    assert not kept[17:20].any()  # of a run before idling, the last 3 go
    assert kept[58:65].all()  # 7 idle steps may stay
    assert not kept[84:].any()  # 12 moving steps are too few


def test_octos_binarisation_takes_what_comes_next() -> None:
    assert binarise(np.array([0.5, 0.97, 0.5, 0.4, 0.01, 0.3, 0.6])).tolist() == [True, True, False, False, False, True, True]


@pytest.mark.parametrize(("toggles", "share"), [((10, 20, 100), 1 / 3), ((10, 80, 160), 0.0)])
def test_chatter_is_the_share_of_toggles_that_are_taken_back_at_once(toggles: tuple[int, ...], share: float) -> None:
    values = demo(2, 4)
    opening = np.ones(len(values))
    for at in toggles:
        opening[at:] = 1 - opening[at:]
    values[:, 3] = opening
    assert value("chatter", subject_of(values)) == pytest.approx(share)


def test_tracking_error_finds_the_delay() -> None:
    state = demo(4, 5)
    late = np.concatenate([state[8:], np.repeat(state[-1:], 8, 0)])
    good = METRICS["tracking"].compute(subject_of(state, action=late))
    assert good.detail["delay_s"] == pytest.approx(0.16)
    off = METRICS["tracking"].compute(subject_of(state, action=late + np.array([0.3, 0, 0, 0])))
    assert good.value < 0.01 < 0.05 < off.value


def test_saturation_is_a_plateau_at_the_largest_change() -> None:
    values = demo(5, 4)
    contract = CONTRACT.from_json(CONTRACT.to_json().replace('"absolute", "role": "action"', '"delta", "role": "action"'))
    change = np.diff(values, axis=0, append=values[-1:])
    limit = 0.6 * np.abs(change[:, :3]).max(0)
    clipped = change.copy()
    clipped[:, :3] = np.clip(change[:, :3], -limit, limit)
    told = []
    for action in (change, clipped):
        it = Evidence(contract, steps_of(values, action=action))
        told.append(value("saturation", Subject(it, read_signals(it))))
    assert told[0] < 0.03 < 0.15 < told[1]
    assert METRICS["saturation"].compute(subject_of(values)).value is None  # absolute targets


def test_clocks() -> None:
    values = demo(6, 3)
    t = (np.arange(len(values)) * SECOND / 50).astype(np.int64)
    even = subject_of(values, t_ns=t)
    assert (value("jitter", even), value("gaps", even)) == (pytest.approx(0, abs=1e-6), 0)
    late = t.copy()
    late[40:] += SECOND // 10
    late[90:] += SECOND // 10
    told = subject_of(values, t_ns=late)
    assert value("gaps", told) == 2
    assert value("jitter", told) == pytest.approx(np.diff(late).std() / (SECOND / 50))


def test_a_camera_that_runs_away() -> None:
    values = demo(7, 4)
    steps = steps_of(values)
    steps = steps.append_column("frame.front", [np.arange(len(values), dtype=np.int32)])
    t = steps.column("t_ns").to_numpy()
    seconds = (t[-1] - t[0]) / SECOND
    for slope in (0.0, 0.02):
        track = TrackFacts(8, 8, "h264", len(values), (t * (1 + slope)).astype(np.int64))
        it = Evidence(CONTRACT, steps, tracks={"front": track})
        assert value("drift", Subject(it, None)) == pytest.approx(slope * seconds, abs=1e-6)


def filmed(spoil: str = "") -> Subject:
    """A bright blob that moves as the robot does, over texture."""
    values = demo(8, 4)
    plain = subject_of(values)
    y, x = np.mgrid[:48, :64]
    texture = 30 * np.sin(x) * np.cos(y) + 90
    places = (values[:, :2] + 1) / 2 * np.array([63, 47])
    pictures = np.stack([texture + 120 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 20) for a, b in places[::5]]).astype(np.float32)
    if spoil == "frozen":
        pictures[10:30] = pictures[10]
    if spoil == "other":
        pictures = pictures[::-1]
    if spoil == "dark half":
        pictures[: len(pictures) // 2] *= 0.02
    if spoil == "blank":
        pictures[:] = 0
    sharp = np.array([np.var(np.gradient(p)) for p in pictures])
    return Subject(plain.evidence, plain.signals, plain.spans, {"front": Footage(pictures, sharp, plain.signals.t_ns[::5])})


def test_pictures() -> None:
    good = filmed()
    assert (value("exposure", good), value("freeze", good)) == (0, 0)
    assert 1.0 < value("freeze", filmed("frozen")) <= 2.0  # two seconds, rests not counted
    assert value("exposure", filmed("dark half")) == pytest.approx(0.5, abs=0.02)
    blank = METRICS["exposure"].compute(filmed("blank"))
    assert (blank.value, blank.detail["blank"]) == (1.0, ["front"])
    assert value("freeze", filmed("blank")) == 0  # a matter of exposure
    assert value("motion_vision", good) > 0.6
    assert value("motion_vision", filmed("other")) < value("motion_vision", good) - 0.3


def test_rank_correlation_matches_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40).astype(float), rng.normal(size=40)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(np.ones(5), np.arange(5.0)) == 0


def test_every_score_is_described_and_none_decides() -> None:
    assert all(m.flag for m in METRICS.values())
    assert {m.group for m in METRICS.values()} == {"proprio", "timing", "video", "agreement"}
