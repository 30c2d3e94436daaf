import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.macros import compress, description_bits, expand, learn, ngrams

LABELS = st.lists(st.integers(0, 4), max_size=40)


@given(st.lists(LABELS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_codes_expand_to_what_they_stand_for(sequences: list[list[int]]) -> None:
    merges = learn(sequences, 5)
    codes = [compress(s, merges, 5) for s in sequences]
    assert [expand(c, merges, 5) for c in codes] == sequences
    assert description_bits(codes, merges, 5) <= description_bits(sequences, (), 5)


def test_habits_are_named_and_chance_is_not() -> None:
    habit = [[0, 1, 2, 3] * 6] * 8
    merges = learn(habit, 5)
    assert merges
    assert len(compress(habit[0], merges, 5)) <= 6
    chance = np.random.default_rng(0).integers(0, 5, (8, 24)).tolist()
    assert learn(chance, 5) == ()


def test_ngrams_are_counted() -> None:
    found = ngrams(["a", "b", "a", "b", "c"], 2)
    assert found[0] == (("a", "b"), 2)
    assert dict(found)[("b", "c")] == 1
