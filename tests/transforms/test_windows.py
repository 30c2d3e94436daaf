"""Windows against a brute-force reference on random clocks, and against LeRobot's frame arithmetic on regular ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.windows import (
    SECOND,
    SLACK_NS,
    chunk_offsets,
    delayed_window,
    drawn_delay_ns,
    fill_edges,
    period_ns,
    signal_window,
    to_ns,
    whole_anchors,
    window,
)


def reference(clock, anchor, offset, hold, match):
    """One entry at a time, from the definition."""
    instant, slack = clock[anchor] + offset, min(SLACK_NS, hold // 4)
    if match == "hold":
        rows = [k for k, t in enumerate(clock) if t <= instant + slack]
        pad = instant + slack < clock[0] or instant + slack >= clock[-1] + hold
        return (rows[-1] if rows else 0), pad
    row = min(range(len(clock)), key=lambda k: (abs(clock[k] - instant), k))
    return row, instant < clock[0] - hold // 2 or instant >= clock[-1] + hold - hold // 2


clocks = st.lists(st.integers(1, 400_000_000), min_size=1, max_size=25).map(lambda gaps: np.cumsum(gaps).astype(np.int64))


@given(clock=clocks, data=st.data(), match=st.sampled_from(["hold", "nearest"]), hold=st.integers(1, 500_000_000))
@settings(max_examples=300, deadline=None, database=None)
def test_matches_the_definition_on_random_clocks(clock, data, match, hold):
    anchors = data.draw(st.lists(st.integers(0, len(clock) - 1), min_size=1, max_size=4))
    offsets = data.draw(st.lists(st.integers(-2 * SECOND, 2 * SECOND), min_size=1, max_size=6))
    # instants exactly on, and just around, rows and ends are where errors hide
    offsets += [int(clock[k] - clock[anchors[0]]) + d for k in (0, -1) for d in (-hold, -SLACK_NS, -1, 0, 1, SLACK_NS, hold)]
    found = window(clock, anchors, offsets, hold_ns=hold, match=match)
    want = [[reference(clock.tolist(), a, o, hold, match) for o in offsets] for a in anchors]
    assert found.rows.tolist() == [[row for row, _ in line] for line in want]
    assert found.is_pad.tolist() == [[pad for _, pad in line] for line in want]


@given(clock=clocks, data=st.data())
@settings(max_examples=80, deadline=None, database=None)
def test_holding_never_looks_ahead(clock, data):
    anchor = data.draw(st.integers(0, len(clock) - 1))
    offsets = np.array(data.draw(st.lists(st.integers(-SECOND, 0), min_size=1, max_size=5)))
    hold = period_ns(clock)
    found = window(clock, [anchor], offsets, hold_ns=hold, match="hold")
    real = ~found.is_pad[0]
    slack = min(SLACK_NS, hold // 4)
    assert (clock[found.rows[0]][real] <= (clock[anchor] + offsets + slack)[real]).all()
    assert (found.staleness_ns[0][real] >= -slack).all()
    near = window(clock, [anchor], offsets, hold_ns=hold, match="nearest")
    assert (near.rows <= anchor).all()  # may be later than the instant, never than the anchor


@pytest.mark.parametrize("match", ["hold", "nearest"])
@pytest.mark.parametrize("fps", [3, 10, 15, 20, 24, 29.97, 30, 50, 60, 100, 200])
def test_equals_lerobot_on_regular_clocks(fps, match):
    steps, deltas = 23, np.arange(-30, 31)
    for rounding in (np.floor, np.rint):
        clock = rounding(np.arange(steps) / fps * SECOND).astype(np.int64)
        found = window(clock, np.arange(steps), to_ns(tuple(deltas / fps)), hold_ns=period_ns(clock), match=match)
        wanted = np.arange(steps)[:, None] + deltas
        assert np.array_equal(found.rows, np.clip(wanted, 0, steps - 1))
        assert np.array_equal(found.is_pad, (wanted < 0) | (wanted >= steps))


def test_jittered_clock_needs_nearest():
    """A real clock that wobbles by 4 ms: holding repeats rows, the nearest row is LeRobot's."""
    rng = np.random.default_rng(0)
    clock = (np.arange(40) * SECOND // 20 + rng.integers(-4_000_000, 4_000_000, 40)).astype(np.int64)
    offsets = to_ns(chunk_offsets(0.5, 20))
    near = window(clock, [10], offsets, hold_ns=period_ns(clock), match="nearest")
    held = window(clock, [10], offsets, hold_ns=period_ns(clock), match="hold")
    assert near.rows[0].tolist() == list(range(10, 20))
    assert held.rows[0].tolist() != list(range(10, 20))


def test_chunks_faster_than_the_clock_repeat_rows():
    clock = np.arange(5) * SECOND // 10
    found = window(clock, [3], to_ns(chunk_offsets(0.3, 20)), hold_ns=SECOND // 10, match="hold")
    assert found.rows[0].tolist() == [3, 3, 4, 4, 4, 4]
    assert found.is_pad[0].tolist() == [False, False, False, False, True, True]  # the last row holds one period, then pads


def test_small_things():
    assert chunk_offsets(0.8, 20) == tuple(k / 20 for k in range(16))
    assert chunk_offsets(0.001, 20) == (0.0,)
    assert period_ns(np.array([0, 10, 20, 90])) == 10
    assert period_ns(np.array([5]), 20.0) == SECOND // 20
    assert period_ns(np.array([5])) == SECOND
    single = window(np.array([7]), [0], [-SECOND, 0, SECOND], hold_ns=SECOND // 20, match="nearest")
    assert single.rows.tolist() == [[0, 0, 0]]
    assert single.is_pad.tolist() == [[True, False, True]]
    with pytest.raises(IndexError, match="anchors"):
        window(np.array([7]), [1], [0], hold_ns=1, match="hold")


@given(clock=clocks, data=st.data(), match=st.sampled_from(["hold", "nearest"]), late=st.integers(0, SECOND))
@settings(max_examples=150, deadline=None, database=None)
def test_a_late_signal_is_what_was_known(clock, data, match, late):
    hold = period_ns(clock)
    anchor = data.draw(st.integers(0, len(clock) - 1))
    offsets = data.draw(st.lists(st.integers(-SECOND, SECOND), min_size=1, max_size=5))
    found = delayed_window(clock, [anchor], offsets, hold_ns=hold, match=match, late_ns=late)
    want = [reference(clock.tolist(), anchor, o - late, hold, match) for o in offsets]
    assert found.rows[0].tolist() == [row for row, _ in want]
    assert found.is_pad[0].tolist() == [pad for _, pad in want]
    ages = [0 if pad else int(clock[anchor]) + o - int(clock[row]) for (row, pad), o in zip(want, offsets, strict=True)]
    assert found.staleness_ns[0].tolist() == ages
    if match == "hold":  # nothing is used before it is known
        slack = min(SLACK_NS, hold // 4)
        assert all(age >= late - slack for age, pad in zip(ages, found.is_pad[0], strict=True) if not pad)


@given(clock=clocks, data=st.data(), late=st.integers(0, SECOND), oldest=st.none() | st.integers(0, SECOND))
@settings(max_examples=200, deadline=None, database=None)
def test_a_signal_on_its_own_clock_matches_the_definition_and_never_looks_ahead(clock, data, late, oldest):
    """Every sample at a time, from the definition: the latest one known by then, not too old, inside the episode."""
    clock = clock if data.draw(st.booleans()) else np.sort(np.concatenate([clock, clock[::2]]))  # equal times happen
    anchors = data.draw(st.lists(st.integers(-SECOND, 12 * SECOND), min_size=1, max_size=4))
    offsets = data.draw(st.lists(st.integers(-2 * SECOND, SECOND), min_size=1, max_size=5))
    offsets += [int(clock[k]) - anchors[0] + late + d for k in (0, -1) for d in (-1, 0, 1)]
    end = int(clock[-1]) + data.draw(st.integers(-SECOND, SECOND))
    found = signal_window(clock, anchors, offsets, end_ns=end, late_ns=late, oldest_ns=oldest)
    for n, anchor in enumerate(anchors):
        for k, offset in enumerate(offsets):
            instant = anchor + offset
            known = [row for row, t in enumerate(clock.tolist()) if t + late <= instant]
            age = instant - int(clock[known[-1]]) if known else 0
            pad = not known or instant >= end or (oldest is not None and age > oldest)
            assert found.is_pad[n, k] == pad
            assert found.staleness_ns[n, k] == (0 if pad else age)
            if not pad:
                assert found.rows[n, k] == known[-1]
                assert clock[found.rows[n, k]] + late <= instant


@given(clock=clocks, data=st.data(), match=st.sampled_from(["hold", "nearest"]))
@settings(max_examples=150, deadline=None, database=None)
def test_whole_anchors_are_those_without_padding(clock, data, match):
    offsets = data.draw(st.lists(st.integers(-SECOND, SECOND), min_size=1, max_size=5))
    hold = period_ns(clock)
    start, stop = whole_anchors(clock, offsets, hold_ns=hold, match=match)
    want = [a for a in range(len(clock)) if not any(reference(clock.tolist(), a, o, hold, match)[1] for o in offsets)]
    assert list(range(start, stop)) == want


def test_edges_are_filled_as_asked():
    values = np.arange(1.0, 9.0).reshape(4, 2)
    is_pad = np.array([True, False, False, True])
    assert fill_edges(values, is_pad, "repeat") is values
    assert fill_edges(values, is_pad, "zero_relative") is values
    assert fill_edges(values, np.zeros(4, bool), "mask") is values
    assert fill_edges(values, is_pad, "mask").tolist() == [[0, 0], [3, 4], [5, 6], [0, 0]]
    assert fill_edges(values, is_pad, "zero_relative", (True, False)).tolist() == [[0, 2], [3, 4], [5, 6], [0, 8]]
    assert fill_edges(values[:, 0], is_pad, "zero_relative", (True,)).tolist() == [0, 3, 5, 0]
    assert values[0, 0] == 1  # the mapped data is never written to


def test_drawn_delays_are_uniform_and_repeatable():
    draws = np.array([drawn_delay_ns(100, "ep", step, 0) for step in range(20_000)])
    assert (draws.min(), draws.max()) == (0, 100)
    counts = np.bincount(draws, minlength=101)
    assert ((counts - 20_000 / 101) ** 2 / (20_000 / 101)).sum() < 152  # chi-squared with 100 degrees, p = 0.0005
    assert drawn_delay_ns(100, "ep", 3, 0) == draws[3]
    assert len({drawn_delay_ns(10**9, "ep", 3, draw) for draw in range(50)}) == 50
    assert drawn_delay_ns(0, "x") == 0
