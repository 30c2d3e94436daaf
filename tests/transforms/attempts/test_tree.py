"""The tree itself: paths, ancestors, and what is refused."""

import pyarrow as pa
import pytest
from hypothesis import given, settings

from schemas.attempts import NODES, ROOT, Node, Turn, table, turns_from_json
from schemas.errors import DataError
from tests.support.attempts import arithmetic, question, said, trees
from transforms.attempts.tree import open_tree


def test_paths_leaves_and_ancestors():
    tree, n = arithmetic()
    assert tree.path(n["second"]) == (n["root"], n["wrong"], n["told"], n["second"])
    assert set(tree.leaves) == {n["right"], n["second"], n["poor"]}
    assert tree.common(n["right"], n["second"]) == n["root"]
    assert tree.common(n["second"], n["wrong"]) == n["wrong"]
    assert tree.outcome(n["wrong"]) == 1.0, "what it led to counts"
    with pytest.raises(DataError, match="no node"):
        tree.path("n-none")


@settings(max_examples=30)
@given(trees())
def test_prefixes_agree_at_the_common_ancestor_and_nowhere_after(tree):
    for a in tree.leaves:
        for b in tree.leaves:
            shared = tree.common(a, b)
            depth = len(tree.path(shared)) if shared != ROOT else 0
            assert tree.path(a)[:depth] == tree.path(b)[:depth]
            if a != b:
                assert tree.path(a)[depth:] != tree.path(b)[depth:]
            if shared != ROOT:
                assert tree.rows[shared]["prefix"] in {tree.rows[x]["prefix"] for x in tree.path(b)}


@settings(max_examples=30)
@given(trees())
def test_every_token_of_a_path_can_be_traced(tree):
    for leaf in tree.leaves:
        for step in tree.steps(tree.path(leaf)):
            assert tree.turns(step.node)[step.at] == step.turn


def _rows(tree) -> list[dict]:
    return [dict(r) for r in tree.rows.values()]


def _change(name: str, value):
    tree, n = arithmetic()
    rows = _rows(tree)
    next(r for r in rows if r["node"] == n["second"])[name] = value(n) if callable(value) else value
    return pa.Table.from_pylist(rows, schema=NODES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("parent", "n-gone"), "not there"),
        (("parent", lambda n: n["second"]), "cycle"),
        (("parent", lambda n: n["right"]), "not that of its path"),
        (("content", "changed"), "not that of its path"),
        (("tree", "tree-other"), "hangs on a node of tree"),
        (("node", lambda n: n["right"]), "twice"),
    ],
)
def test_what_is_no_tree_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        open_tree(_change(*change))


def test_missing_columns_and_broken_turns_are_named():
    with pytest.raises(DataError, match="lack the columns"):
        open_tree(NODES.empty_table().drop(["prefix"]))
    with pytest.raises(DataError, match="cannot be read"):
        turns_from_json('[{"role": "user", "nonsense": 1}]')


def test_the_same_attempt_is_one_row_and_content_ignores_who_said_it():
    root = question()
    once = root.child(**said("It is 42."))
    assert table([root, once, once]).num_rows == 2
    other = root.child(**said("It is 42.", generator="other"))
    assert (other.content, other.prefix) == (once.content, once.prefix)
    assert other.id != once.id
    assert Node("robot", "policy", actions="x").content != Node("agent", "model", turns=(Turn("assistant", "x"),)).content
