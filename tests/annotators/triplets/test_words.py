"""Words of prompts: directions, refused captions, kinds of edits, held against hand-written examples."""

import pytest

from annotators.triplets.words import (
    contradicts,
    directed,
    direction_of,
    gripper_promised,
    kind_promised,
    mirrored,
    refused,
    towards,
    turned_around,
)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("pushing the cup from left to right", "right"),
        ("Pushing something from right to left", "left"),
        ("move the block to the left", "left"),
        ("slide the red box up", "up"),
        ("move the red box downwards", "down"),
        ("place the bowl to the left of the plate", ""),
        ("push the left drawer", ""),
        ("pick up the left block", ""),
        ("move it to the left and then to the right", ""),
        ("open the drawer", ""),
    ],
)
def test_directions_are_read_where_something_goes_there(prompt: str, said: str) -> None:
    assert direction_of(prompt) == said


def test_directions_turn_around_and_flip() -> None:
    assert turned_around("Push the cup from left to right") == "Push the cup from right to left"
    assert turned_around("move it up") == "move it down"
    assert turned_around("place it to the left of the plate") == ""
    assert mirrored("Left block: move it up, to the right") == "Right block: move it up, to the left"


def test_displacements_have_a_direction_where_one_axis_dominates() -> None:
    assert [towards(0.2, 0.01, 0.05), towards(0, -0.2, 0.05), towards(0.1, 0.09, 0.05), towards(0.02, 0, 0.05)] == [
        "right",
        "up",
        "",
        "",
    ]
    assert directed("move the cup", "left") == "move the cup to the left"
    assert directed("move the cup to the right", "left") == "move the cup to the right"
    assert contradicts("move it to the right", -9.0, 0.0, 2.0)
    assert not contradicts("move it to the right", 9.0, 0.0, 2.0)
    assert not contradicts("move it", -9.0, 0.0, 2.0)


def test_captions_of_no_lasting_change_are_refused() -> None:
    assert refused("Pretending to pick something up") == "pretend"
    assert refused("Something falls off the table") == "falls off"
    assert refused("Putting it on the edge but it falls off") == ""
    assert refused("Moving the cup to the left") == ""


def test_words_tell_the_gripper_and_the_kind() -> None:
    assert [gripper_promised(t) for t in ("grasp the cup", "release the cup", "pick it and drop it", "push it")] == [-1, 1, 0, 0]
    assert kind_promised("open the drawer", "") == "articulation"
    assert kind_promised("rotate the bar", "rotate") == "rotation"
    assert kind_promised("make the red box blue", "") == "attribute"
    assert kind_promised("close the gripper", "grasp") == "grasp"
    assert kind_promised("add a red ball", "") == "count"
    assert kind_promised("push the cup", "push") == ""
