import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.gaze.maps import at, expected_point, heat, loc_text, peak_point, token_points, tokens
from transforms.gaze.moves import Moves

SHARE = st.floats(0.0, 1.0)


@given(SHARE, SHARE, st.floats(0.02, 0.2))
@settings(max_examples=40)
def test_a_map_is_the_gaussian_it_says(x: float, y: float, sigma: float) -> None:
    made = heat([x, y], (24, 32), sigma)
    rows, columns = (np.arange(24) + 0.5) / 24, (np.arange(32) + 0.5) / 32
    plain = np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * sigma**2))
    assert np.allclose(made, plain / plain.sum(), atol=1e-6)


def test_maps_of_nothing_are_zero_and_points_come_back() -> None:
    assert not heat([np.nan, 0.5], (8, 8), 0.1).any()
    assert not heat([50.0, 0.5], (8, 8), 0.01).any()
    xy = np.random.default_rng(0).uniform(0.3, 0.7, (50, 2))
    made = heat(xy, (64, 64), 0.05)
    assert np.abs(expected_point(made) - xy).max() < 1e-4
    assert np.abs(peak_point(made) - xy).max() <= 0.5 / 64 + 1e-9


def test_reading_a_map_is_bilinear_between_centres() -> None:
    plain = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert at(plain, [0.25, 0.25]) == 0.0
    assert at(plain, [0.5, 0.5]) == 1.5
    assert at(np.stack([plain, plain]), np.array([[0.75, 0.25], [0.0, 1.0]])).tolist() == [1.0, 2.0]


@given(SHARE, SHARE, st.integers(2, 40))
@settings(max_examples=50)
def test_tokens_come_back_to_within_half_a_bin(x: float, y: float, grid: int) -> None:
    back = token_points(tokens([x, y], grid), grid)
    assert np.abs(back - [x, y]).max() <= 0.5 / grid + 1e-9


def test_tokens_are_row_major_and_know_what_is_outside() -> None:
    assert tokens([[0.0, 0.0], [0.99, 0.0], [0.0, 0.99], [1.0, 1.0], [1.01, 0.5], [np.nan, 0.5]]).tolist() == [
        0,
        15,
        240,
        255,
        -1,
        -1,
    ]
    assert np.isnan(token_points([-1])).all()
    with pytest.raises(UsageError, match="leave a grid of 16"):
        token_points([256])
    assert loc_text([0.25, 0.5]) == "<loc0512><loc0256>"
    assert loc_text([1.0, 1.0]) == "<loc1023><loc1023>"


MOVES = st.lists(st.sampled_from(["mirror", "flip", "turn", "crop"]), max_size=6)


def made(names: list[str]) -> Moves:
    chain = Moves()
    for name in names:
        chain = chain.crop(0.1, 0.2, 0.9, 0.7) if name == "crop" else getattr(chain, name)()
    return chain


@given(MOVES, SHARE, SHARE)
@settings(max_examples=60)
def test_moves_are_undone(names: list[str], x: float, y: float) -> None:
    chain = made(names)
    assert np.abs(chain.back(chain.forward([x, y])) - [x, y]).max() * 4000 < 0.1


def test_points_move_as_pixels_do() -> None:
    picture = np.zeros((40, 60))
    picture[10, 45] = 1
    point = np.array([(45 + 0.5) / 60, (10 + 0.5) / 40])
    for name, moved in (
        ("mirror", picture[:, ::-1]), ("flip", picture[::-1]), ("turn", np.rot90(picture, -1)), ("crop", picture[8:28, 6:54]),
    ):  # fmt: skip
        chain = made([name])
        row, column = np.argwhere(moved)[0]
        want = [(column + 0.5) / moved.shape[1], (row + 0.5) / moved.shape[0]]
        assert chain.forward(point) == pytest.approx(want), name
    assert Moves().turn(4).matrix == pytest.approx(np.eye(3))
    with pytest.raises(UsageError, match="leaves no picture"):
        Moves().crop(0.5, 0.0, 0.5, 1.0)
