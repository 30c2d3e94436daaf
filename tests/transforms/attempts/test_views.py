"""Views on a tree that can be checked by hand, and what holds of every tree."""

import itertools
import math
from collections import Counter

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pipelines.attempts.views import VIEWS, view
from schemas.attempts import Node, Turn, table
from schemas.errors import UsageError
from tests.support.attempts import arithmetic, question, said, trees
from transforms.attempts.choices import choices
from transforms.attempts.errors import first_error
from transforms.attempts.memory import histories, jaccard, refinements
from transforms.attempts.preference import pairs, preference_table
from transforms.attempts.splice import MARKER, splices
from transforms.attempts.tree import open_tree
from transforms.attempts.turns import Transitions, records, reward_weights, success_by_turn, transitions, turn_pairs


def test_the_first_error_is_the_judges_or_the_largest_fall():
    tree, n = arithmetic()
    assert first_error(tree, n["second"]) == n["wrong"]
    assert first_error(tree, n["right"]) is None
    unjudged, names = _unjudged_chain()
    assert first_error(unjudged, names[-1], dict(zip(names, (0.8, 0.7, 0.1, 0.2), strict=True))) == names[2]
    assert first_error(unjudged, names[-1], dict(zip(names, (0.1, 0.2, 0.3, 0.4), strict=True))) is None
    assert first_error(unjudged, names[-1]) is None


def _unjudged_chain():
    nodes = [question()]
    for word in "abc":
        nodes.append(nodes[-1].child(**said(word)))
    return open_tree(table(nodes)), [x.id for x in nodes]


def test_a_splice_keeps_the_mistake_and_goes_on_rightly():
    tree, n = arithmetic()
    (found,) = splices(tree, alpha=0.5, beta=0.5)
    assert (found.bad, found.good, found.ancestor) == (
        n["poor"],
        max(n["right"], n["second"], key=lambda x: (tree.outcome(x), x)),
        n["root"],
    )
    assert found.wrong == (n["poor"],)
    texts = [s.turn.text for s in found.steps]
    assert texts[:2] == ["What is 6 times 7?", "It is 13."]
    assert found.steps[2].turn == MARKER
    assert [s.trained for s in found.steps][:3] == [False, False, True]
    assert found.outcome > 0.5
    with pytest.raises(UsageError, match="beta"):
        next(splices(tree, alpha=0.1, beta=0.9))


def test_a_continuation_that_repeats_the_mistake_is_not_used():
    root = question()
    bad = root.child(**said("It is 41.", outcome=0.0, error=True))
    same = root.child(**said("It is 41.", generator="other")).child(**said("No, 42.", outcome=1.0))
    tree = open_tree(table([root, bad, root.child(**said("It is 41.", generator="other")), same]))
    assert list(splices(tree)) == []


def test_splices_need_a_shared_state_where_they_share_no_past():
    def single(state: str, outcome: float, word: str) -> Node:
        return Node("robot", "policy", actions=word, state=state, outcome=outcome, error=outcome < 0.5, task="t")

    apart = open_tree(table([single("s1", 0.0, "x"), single("s2", 1.0, "y")]))
    assert list(splices(apart)) == []
    together = open_tree(table([single("s1", 0.0, "x"), single("s1", 1.0, "y")]))
    (found,) = splices(together)
    assert (found.ancestor, found.state) == ("", "s1")


@settings(max_examples=30)
@given(trees())
def test_pairs_share_their_prompt_and_prefer_the_better(tree):
    for pair in pairs(tree):
        assert pair.better > pair.worse
        assert tree.rows[pair.chosen[0]]["parent"] == tree.rows[pair.rejected[0]]["parent"]
        assert tree.outcome(pair.chosen[0]) == pair.better
        for nodes in (pair.chosen, pair.rejected):
            assert all(tree.rows[b]["parent"] == a for a, b in itertools.pairwise(nodes))


def test_preferences_have_the_columns_a_dpo_trainer_reads():
    tree, n = arithmetic()
    rows = preference_table(tree).to_pylist()
    assert {(r["chosen_nodes"][0], r["rejected_nodes"][0]) for r in rows} == {(n["right"], n["poor"]), (n["wrong"], n["poor"])}
    assert all(r["prompt"] == [{"role": "user", "content": "What is 6 times 7?"}] for r in rows)
    assert {r["prompt_hash"] for r in rows} == {tree.rows[n["root"]]["prefix"]}
    datasets = pytest.importorskip("datasets")
    assert {"prompt", "chosen", "rejected"} <= set(datasets.Dataset(preference_table(tree)).column_names)


def test_turns_add_up():
    tree, n = arithmetic()
    (record,) = records(tree, alpha=2.0, policy="m", version=2)
    assert record.nodes == (n["wrong"], n["second"])
    assert record.rewards == (0.0, 1.0)
    assert record.shaped == (0.0, 1.0 + 2.0)
    assert (record.on_policy, record.lag) == (False, 1)
    assert transitions([record]).counts == ((0, 1), (0, 0))
    assert success_by_turn([record]) == (0.0, 1.0)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1))
def test_the_gain_is_what_was_put_right_less_what_was_spoiled(outcomes):
    made = []
    for at, (first, second) in enumerate(outcomes):
        root = question(str(at))
        one = root.child(**said("x", outcome=first))
        made += [root, one, one.child(**said("y", outcome=second))]
    found = list(records(open_tree(table(made))))
    counted: Transitions = transitions(found)
    assert counted.total == len(outcomes)
    assert counted.gain == pytest.approx(np.mean([b - a for a, b in outcomes]))
    rates = success_by_turn(found)
    assert all(b >= a for a, b in itertools.pairwise(rates))


def test_records_are_on_policy_where_the_policy_made_all_of_them():
    root = question()
    mine = root.child(**said("x", outcome=0.0, version=3))
    tree = open_tree(table([root, mine, mine.child(**said("y", outcome=1.0, version=3))]))
    asked = {"m": (3, True, 0), "other": (3, False, 0)}
    for policy, (version, on_policy, lag) in asked.items():
        (found,) = records(tree, policy=policy, version=version)
        assert (found.on_policy, found.lag) == (on_policy, lag)
        assert on_policy == all(tree.rows[n]["generator"] == policy for n in found.nodes)
    (newer,) = records(tree, policy="m", version=4)
    assert (newer.on_policy, newer.lag) == (False, 1)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=12))
@settings(max_examples=30)
def test_two_turns_make_a_pair_where_one_is_right(outcomes):
    made = []
    for at, (first, second) in enumerate(outcomes):
        root = question(str(at))
        one = root.child(**said("first", outcome=first))
        told = one.child(kind="agent", author="environment", turns=(Turn("user", "sure?"),))
        made += [root, one, told, told.child(**said("second", outcome=second))]
    tree = open_tree(table(made))
    found = list(records(tree))
    pairs_made = list(turn_pairs(found, tree))
    counts = transitions(found).counts
    assert sum(map(sum, counts)) == len(outcomes)
    assert len(pairs_made) == counts[0][1] + counts[1][0]
    rows = preference_table(tree, pairs_made).to_pylist()
    for pair, row in zip(pairs_made, rows, strict=True):
        assert (tree.outcome(pair.chosen[0]) or 0) >= pair.better == 1
        assert pair.worse == 0
        assert (
            row["prompt_hash"]
            == tree.rows[tree.rows[min(pair.chosen + pair.rejected, key=lambda n: len(tree.path(n)))]["parent"]]["prefix"]
        )
        assert {row["chosen"][-1]["content"], row["rejected"][-1]["content"]} == {"first", "second"}
        assert [m["role"] for m in row["prompt"]] == ["user"]


def test_reward_weights_add_up_and_sharpen():
    weights = reward_weights({"a": 1.0, "b": 0.0}, 0.5)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["a"] / weights["b"] == pytest.approx(math.e**2)


def test_histories_forget_repetitions_and_remember_the_best():
    root = question()
    answers = [("it is forty one", 0.1), ("it is forty one", 0.3), ("perhaps thirteen then", 0.0), ("so forty two", 1.0)]
    leaves = [root.child(**said(t, outcome=r, version=i)) for i, (t, r) in enumerate(answers)]
    (found,) = histories(open_tree(table([root, *leaves])), most=0.9)
    assert found.kept == (leaves[0].id, leaves[2].id, leaves[3].id)
    assert found.repeated == (leaves[1].id,)
    assert found.best == (0.1, 0.1, 1.0)
    assert jaccard("", "") == 1


def test_mistakes_have_no_loss_and_need_an_answer():
    tree, n = arithmetic()
    ((leaf, steps),) = refinements(tree)
    assert leaf == n["second"]
    assert [(s.turn.role, s.trained) for s in steps] == [
        ("user", False),
        ("assistant", False),
        ("environment", False),
        ("assistant", True),
    ]
    root = question()
    silent = root.child(**said("It is 41.", error=True))
    assert list(refinements(open_tree(table([root, silent, silent.child(**said("42", outcome=1.0))])))) == []


def test_every_row_of_a_refinement_keeps_to_its_schema():
    made = []
    for task in ("sum", "product", "sum"):
        root = question(task)
        wrong = root.child(**said("It is 41.", error=True, detail={"n": len(made)}))
        told = wrong.child(kind="agent", author="environment", turns=(Turn("tool", "no"),))
        made += [root, wrong, told, told.child(**said("It is 42.", outcome=1.0, error=False))]
    rows = view(open_tree(table(made)), "refine").to_pylist()
    schema = {
        "type": "object", "required": ["task", "messages", "loss_mask", "nodes"],
        "properties": {
            "task": {"enum": ["sum", "product"]}, "loss_mask": {"items": {"enum": [0, 1]}, "contains": {"const": 1}},
            "messages": {"items": {"required": ["role", "content"], "properties": {"role": {"enum": ["user", "assistant", "tool"]}, "content": {"type": "string", "minLength": 1}}}},
        },
    }  # fmt: skip
    for row in rows:
        jsonschema.validate(row, schema)
        assert len(row["messages"]) == len(row["loss_mask"]) == len(row["nodes"])
    assert len({row["task"] for row in rows}) == 2, "distinct environments"


def test_choices_have_one_right_option_anywhere():
    made, right = [], 0
    for at in range(240):
        root = Node("agent", "environment", turns=(Turn("user", f"question {at}"),), task=str(at))
        made += [
            root,
            *(root.child(**said(f"wrong {i}", outcome=0.0)) for i in range(3)),
            root.child(**said("right", outcome=1.0)),
        ]
    tree = open_tree(table(made))
    found = list(choices(tree))
    assert len(found) == 240
    for choice in found:
        right += choice.options[choice.answer] == "right"
        assert choice.options.count("right") == 1
    assert right == 240
    positions = Counter(c.answer for c in found)
    assert chisquare([positions[i] for i in range(4)]).pvalue > 0.01
    assert found == list(choices(tree)), "the same order for everybody"


@settings(max_examples=30)
@given(trees())
def test_every_view_is_a_function_of_the_tree(tree):
    again = open_tree(table([]) if not tree.rows else _shuffled(tree))
    for name in VIEWS:
        assert view(tree, name).to_pylist() == view(again, name).to_pylist(), name


def _shuffled(tree):
    import pyarrow as pa

    from schemas.attempts import NODES

    return pa.Table.from_pylist(list(reversed(list(tree.rows.values()))), schema=NODES)
