"""Filters on drawn pairs whose change is known: what is one change passes, every way of spoiling it is refused for its own reason."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from annotators.triplets.camera import border_shift, corner_shift, fast_flow, weighted_median
from annotators.triplets.change import similarity
from annotators.triplets.filters import NAMES, Judged, judge
from annotators.triplets.pair import Evidence, Pair, at_working_size, grey
from annotators.triplets.spoil import backwards, something_else_too
from tests.support.tabletop import SINGLE, Drawn, cloth, make

SEEDS = range(4)


def pair_of(drawn: Drawn, **change: object) -> Pair:
    return replace(Pair(drawn.source, drawn.target, drawn.prompt, drawn.before, drawn.after, drawn.robot), **change)


def verdict(drawn: Drawn, **change: object) -> Judged:
    return judge(Evidence(pair_of(drawn, **change)))


@pytest.mark.parametrize("kind", SINGLE)
def test_one_change_passes_and_its_kind_is_read(kind: str) -> None:
    found = [verdict(make(kind, seed)) for seed in SEEDS]
    accepted = [f.moved.kind for f in found if f.reason is None and f.moved is not None]
    assert len(accepted) >= len(SEEDS) - 1
    assert set(accepted) == {kind}
    assert all(0 < f.confidence <= 1 for f in found if f.reason is None)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("none", "no_change"), ("camera", "camera_moved"), ("two", "several_changes"), ("arm_only", "arm_only"), ("blur", "too_blurred"),
        ("still_moving", "not_still"), ("swap_colours", "several_changes"),
    ],
)  # fmt: skip
def test_spoilt_pairs_are_refused_for_their_reason(kind: str, reason: str) -> None:
    found = [verdict(make(kind, seed)).reason for seed in SEEDS]
    assert found == [reason] * len(SEEDS)


def test_light_alone_is_no_change() -> None:
    assert all(verdict(make("light", seed)).reason is not None for seed in SEEDS)


def test_filters_are_asked_in_order_of_cost() -> None:
    drawn = make("camera", 0)
    e = Evidence(pair_of(drawn))
    assert judge(e).filter == "camera"
    assert "change" not in e.__dict__
    assert "likeness" not in e.__dict__
    assert NAMES.index("picture") < NAMES.index("camera") < NAMES.index("single") < NAMES.index("duplicate")


def test_words_against_the_picture_are_refused() -> None:
    other = {"right": "left", "left": "right", "up": "down", "down": "up"}
    for seed in (0, 1):
        drawn = make("location", seed)
        words = drawn.prompt.split()
        wrong = " ".join([*words[:-1], other[words[-1]]])
        assert verdict(drawn).reason is None
        assert verdict(drawn, prompt=wrong).reason == "prompt_contradicts"
        assert verdict(drawn, phase="reach").reason == "prompt_contradicts"
        assert verdict(drawn, prompt=None).reason == "no_prompt"
        assert verdict(drawn, prompt="grasp it", phase="grasp", opened=0.8).reason == "gripper_contradicts"
        assert verdict(drawn, prompt="grasp it", phase="grasp", opened=-0.8).reason is None


def test_a_simulator_that_saw_two_things_move_is_believed() -> None:
    drawn = make("location", 1)
    assert verdict(drawn, moved=1).reason is None
    assert verdict(drawn, moved=2).reason == "several_changes"
    assert verdict(drawn, moved=0).reason == "nothing_moved"


def test_read_backwards_the_verdict_is_the_same_and_the_way_the_opposite() -> None:
    for kind in ("location", "count", "two"):
        for seed in (0, 1, 2):
            pair = pair_of(make(kind, seed), prompt="")
            forth, back = judge(Evidence(pair)), judge(Evidence(backwards(pair)))
            assert (forth.reason is None) == (back.reason is None)
            if kind == "location" and forth.moved and back.moved and forth.moved.dx is not None:
                assert forth.moved.dx * (back.moved.dx or 0) + (forth.moved.dy or 0) * (back.moved.dy or 0) < 0


def test_a_second_change_elsewhere_is_refused() -> None:
    for seed in SEEDS:
        pair = pair_of(make("location", seed))
        twin = something_else_too(pair, seed)
        assert twin is not None
        assert judge(Evidence(twin)).reason == "several_changes"


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_the_border_tells_how_the_camera_moved(length: float) -> None:
    errors = []
    for seed in range(8):
        drawn = make("location", seed, jitter=length)
        first, second = grey(drawn.source), grey(drawn.target)
        found = border_shift(fast_flow(first, second), first)
        errors.append(np.hypot(found.dx - drawn.camera[0], found.dy - drawn.camera[1]))
    assert np.median(errors) < 0.15


def test_edges_have_no_vote_along_themselves() -> None:
    """Stripes that run across the picture: nobody can see them move along, and nothing may be made of it."""
    stripes = np.repeat((np.arange(256) // 8 % 2 * 90 + 80).astype(np.uint8)[:, None], 256, 1)
    flow = np.zeros((256, 256, 2), np.float32)
    flow[..., 0] = 3.0
    assert border_shift(flow, stripes).px == 0.0
    assert border_shift(flow[:, :, ::-1].copy(), stripes).dy == pytest.approx(3.0)


def test_the_robot_has_no_vote() -> None:
    flow, image = np.zeros((256, 256, 2), np.float32), np.clip(cloth(0)[:256, :256], 0, 255).astype(np.uint8)
    robot = np.zeros((256, 256), bool)
    robot[:, :140] = True
    flow[robot] = 5.0
    assert border_shift(flow, image).px > 1
    assert border_shift(flow, image, robot).px == 0.0


def test_zoom_and_roll_do_not_hide_behind_their_mean() -> None:
    y, x = np.mgrid[:256, :256].astype(np.float32) - 128
    image = np.clip(cloth(0)[:256, :256], 0, 255).astype(np.uint8)
    for flow in (np.stack([x, y], -1) * 0.02, np.stack([-y, x], -1) * 0.02):
        found = border_shift(flow.astype(np.float32), image)
        assert abs(found.dx) + abs(found.dy) < 0.3
        assert found.px > 1.5


def test_corners_agree_with_a_known_shift_and_say_nothing_of_a_plain_picture() -> None:
    image = np.clip(cloth(3)[:256, :256], 0, 255).astype(np.uint8)
    moved = cv2.warpAffine(image, np.array([[1, 0, 3], [0, 1, -4]], np.float32), (256, 256), borderMode=cv2.BORDER_REFLECT)
    assert corner_shift(image, np.asarray(moved, np.uint8)) == pytest.approx(5.0, abs=1.0)
    assert corner_shift(np.full((256, 256), 90, np.uint8), np.full((256, 256), 90, np.uint8)) is None


def test_similarity_has_its_closed_forms() -> None:
    image = np.clip(cloth(3)[:256, :256], 0, 255).astype(np.uint8)
    assert similarity(image, image).min() == pytest.approx(1.0, abs=1e-4)
    flat, bright = np.full((32, 32), 100, np.uint8), np.full((32, 32), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert similarity(flat, bright).mean() == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), rel=1e-4)


def test_medians_by_weight() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_median(values, np.array([1.0, 1.0, 1.0])) == 2.0
    assert weighted_median(values, np.array([5.0, 1.0, 1.0])) == 3.0
    assert weighted_median(values, np.zeros(3)) == 0.0


def test_pictures_are_looked_at_in_one_size() -> None:
    assert at_working_size(np.zeros((64, 48, 3), np.uint8)).shape == (256, 192, 3)
    assert at_working_size(np.zeros((480, 640, 3), np.uint8)).shape == (192, 256, 3)
