import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.language.sequences import Constraints, corrupt, ed_at_z, edit_distance, mine, repetition_weights, violations

PICK = [("reach", "cup"), ("grasp", "cup"), ("transport", "cup"), ("release", "cup")]
OPEN = [("reach", "drawer"), ("push", "drawer")]


def test_constraints_are_found_and_broken_by_one_edit() -> None:
    known = mine([PICK + OPEN] * 20)
    assert ("grasp", "release") in known.before
    assert ("release", "grasp") not in known.before
    assert violations(PICK + OPEN, known) == ()
    assert ("order", "grasp", "release") in violations([PICK[0], PICK[3], PICK[2], PICK[1]], known)
    assert violations([("grasp", "drawer")], Constraints(pairs=known.pairs)) == (("pair", "grasp", "drawer"),)
    for pick in range(5):
        made = corrupt(PICK + OPEN, known, lambda n, pick=pick: pick % n)
        assert made is not None
        assert made[1] in violations(made[0], known)
        assert sum(a != b for a, b in zip(made[0], PICK + OPEN, strict=True)) <= 2


def test_rare_habits_are_no_constraints() -> None:
    assert mine([PICK] * 19).before == ()
    mixed = [PICK] * 20 + [[("release", "cup")]]  # once in 21: under 98 %
    assert ("grasp", "release") not in mine(mixed).before
    assert mine(mixed, confidence=0.9).before
    assert corrupt(PICK, Constraints(), lambda _: 0) is None


def test_a_pair_missing_by_chance_is_no_constraint() -> None:
    few = mine([PICK + OPEN] * 5)  # grasping the drawer was to be expected 1.7 times
    assert ("grasp", "drawer") in few.pairs
    assert ("grasp", "drawer") not in mine([PICK + OPEN] * 20).pairs
    assert violations([("grasp", "drawer")], Constraints(pairs=few.pairs)) == ()


def test_a_second_use_needs_its_own_first() -> None:
    known = mine([PICK * 2] * 20)
    assert ("order", "grasp", "release") in violations([*PICK, ("release", "cup")], known)


def test_repetition_weights_count_earlier_verbs_and_nouns() -> None:
    assert repetition_weights([("a", "x"), ("b", "x"), ("a", "x"), ("c", "y")]) == (0, 1, 3, 0)


def test_ed_at_z_by_hand() -> None:
    assert ed_at_z([list("abc"), list("xyz")], list("abd"), z=3) == pytest.approx(1 / 3)
    assert ed_at_z([list("abdzzz")], list("abdqqq"), z=3) == 0
    assert ed_at_z([[]], list("ab")) == 1
    assert edit_distance("kitten", "sitting") == 3
    with pytest.raises(UsageError, match="z >= 1"):
        ed_at_z([], ["a"])


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
@settings(max_examples=50, deadline=None)
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
