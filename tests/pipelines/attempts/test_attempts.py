"""Attempts read from recordings, traces and simulators, kept in a lake, and exported."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog.tables import Catalog
from pipelines.attempts.recorded import intervention_nodes, read_recorded
from pipelines.attempts.simulate import Branching, grow, replay, state_digest
from pipelines.attempts.stage import AttemptsStage, read_attempts
from pipelines.attempts.traces import read_traces
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.integrity import verify_lake
from pipelines.selection import choose
from pipelines.unit import run_stage
from schemas.attempts import table
from schemas.errors import UsageError
from tests.support.arrays import Numbers, ingest_numbers
from tests.support.attempts import Corridor
from transforms.attempts.errors import first_error
from transforms.attempts.interventions import interventions
from transforms.attempts.splice import splices
from transforms.attempts.tree import open_tree

HERE = Execution(workers=0)


def _walk(seed: int, *, success: bool, start: float = 0.0) -> Numbers:
    rng = np.random.default_rng(seed)
    state = start + np.cumsum(rng.normal(size=(20, 2)), axis=0)
    state[0] = start
    return Numbers(state, rng.normal(size=(20, 2)), task="walk", scene="one", success=success)


def test_episodes_that_begin_alike_are_attempts_at_one_thing(lake):
    ingest_numbers(lake, [_walk(0, success=False), _walk(1, success=True), _walk(2, success=True, start=9.0)])
    stage = AttemptsStage(lake, "walks", "retries", "all")
    assert run_stage(stage, execution=HERE).worked == 1
    tree = open_tree(read_attempts(lake, "walks"))
    ((_, siblings),) = list(tree.siblings())
    assert len(siblings) == 2
    assert sorted(tree.outcome(n) for n in siblings) == [0.0, 1.0]
    assert run_stage(stage, execution=HERE).worked == 0


def test_damage_is_found_and_repaired(lake):
    ingest_numbers(lake, [_walk(0, success=False), _walk(1, success=True)])
    stage = AttemptsStage(lake, "walks", "retries", "all")
    run_stage(stage, execution=HERE)
    before = read_attempts(lake)
    (uri,) = Catalog(lake).latest("attempts").collect()["uri"]
    Path(lake.path(uri)).write_bytes(b"nothing")
    assert verify_lake(lake).damaged == (uri,)
    assert run_stage(stage, execution=HERE, repair=True).worked == 1
    assert verify_lake(lake).damaged == ()
    assert read_attempts(lake).equals(before)


def test_a_take_over_becomes_a_correction_of_what_the_policy_would_have_done(lake):
    action = np.arange(40.0).reshape(20, 2)
    flags = ((np.arange(20) >= 8) & (np.arange(20) < 14)).astype(float)
    extra = {"is_intervention": flags[:, None], "policy_action": action - 5}
    ingest_numbers(lake, [Numbers(action * 0, action, success=True, extra=extra)])
    episode = next(read_recorded(lake, choose(lake, "all").episodes))
    nodes = intervention_nodes(episode)
    tree = open_tree(table(nodes))
    (found,) = interventions(tree)
    taken, wanted = tree.rows[found.inserted], tree.rows[found.original]
    assert (taken["author"], taken["start_ns"], taken["end_ns"]) == ("human", 800_000_000, 1_400_000_000)
    assert wanted["error"] is True
    assert json.loads(wanted["detail"]) == {"carried_out": False}
    how = json.loads(taken["detail"])
    np.testing.assert_allclose(np.abs(how["directions"]), [[0.5**0.5, 0.5**0.5]], atol=1e-5)  # 5 more of both, always
    assert (how["explained"], how["effect_s"]) == (1.0, 0.0)
    np.testing.assert_array_equal(np.reshape(wanted["values"], (6, 2)), action[8:14] - 5)
    assert first_error(tree, found.original) == found.original
    assert [tree.rows[n]["author"] for n in tree.path(tree.leaves[-1])][-1] in ("policy", "human")


def test_without_a_flag_an_episode_is_rejected(lake):
    ingest_numbers(lake, [_walk(0, success=True)])
    report = run_stage(AttemptsStage(lake, "none", "interventions", "all"), execution=HERE)
    assert "intervention" in report.rejects[0].message
    with pytest.raises(UsageError, match="no attempts called"):
        read_attempts(lake, "none")


def _line(messages: list[tuple[str, str]], **more) -> str:
    return json.dumps({"task": "sum", "messages": [{"role": r, "content": c} for r, c in messages], "model": "m", **more})


BEGINNING = [("user", "6 times 7?"), ("assistant", "Let me think."), ("tool", "ok")]


def test_traces_that_begin_alike_share_nodes(lake, tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text(
        "\n".join([
            _line([*BEGINNING, ("assistant", "41")], score=0.0, id="a", errors=[3]),
            _line([*BEGINNING, ("assistant", "42")], score=1.0, id="b", errors=[], milestones=["thought"], duration_s=2.5),
            "{not json",
            _line([("martian", "hello")]),
        ])
    )  # fmt: skip
    report = run_stage(AttemptsStage(lake, "agent", "traces", str(path)), execution=HERE)
    assert [r.key for r in report.rejects] == ["line 3", "line 4"]
    assert "role must be one of" in report.rejects[1].message
    tree = open_tree(read_attempts(lake, "agent"))
    assert len(tree.rows) == 4, "question, thought, and two answers"
    (splice,) = splices(tree)
    assert [s.turn.text for s in splice.steps if s.trained][-1] == "42"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "at least one"), ({"score": "high"}, "not a number"), ({"success": 1}, "not true or false"),
        ({"errors": "all"}, "positions"), ({"milestones": [1]}, "names"), ({"duration_s": -1}, "seconds"), ({"extra": 1}, "unknown keys"),
        ({"version": "new"}, "whole number"), ({"author": "dog"}, "author"), ({"model": 3}, "not text"),
        ({"messages": [{"role": "user", "content": 3}]}, "text or a list"), ({"judged": [{"at": 0}]}, "numbers called"),
        ({"judged": [{"at": 0, "aligned": 1.5}]}, "probability"), ({"judged": [{"at": "0", "correct": 1}]}, "position"),
        ({"messages": [{"role": "assistant", "content": "x", "reasoning_content": 3}]}, "must be text"),
    ],
)  # fmt: skip
def test_a_bad_line_says_what_is_wrong(change, words):
    body = {"task": "t", "messages": [{"role": "user", "content": "x"}]} | change
    (line,) = read_traces(iter([json.dumps(body)]))
    assert words in str(line.error)


def test_what_was_thought_and_what_judges_said_is_kept():
    messages = [
        {"role": "user", "content": "6 times 7?"}, {"role": "assistant", "content": "42", "reasoning_content": "6 tens less 18"},
        {"role": "tool", "content": "ok"}, {"role": "assistant", "content": "sure"},
    ]  # fmt: skip
    marks = [{"at": 1, "correct": 0.5}, {"at": 1, "utility": 0.25}, {"at": 3, "aligned": 0.9}]
    (line,) = read_traces(iter([json.dumps({"messages": messages, "score": 1.0, "judged": marks, "errors": [1]})]))
    root, first, second = line.nodes
    assert [(t.text, t.think) for t in first.turns] == [("6 tens less 18", True), ("42", False), ("ok", False)]
    assert (first.detail["judge"], second.detail["judge"]) == ({"correct": 0.5, "utility": 0.25}, {"aligned": 0.9})
    assert (root.error, first.error, second.error) == (None, True, False)


def test_parts_of_a_message_are_joined_and_what_is_no_text_is_kept():
    parts = [{"type": "text", "text": "see "}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "this"}]
    (line,) = read_traces(iter([json.dumps({"messages": [{"role": "user", "content": parts}], "success": True})]))
    turn = line.nodes[0].turns[0]
    assert turn.text == "see this"
    assert turn.call[0]["type"] == "image_url"


def test_a_spliced_recovery_replays_to_success():
    simulator, how = Corridor(), Branching(steps=4, depth=2, width=2)
    policies = [("back", lambda _s, _d: np.array([-0.5])), ("on", lambda _s, _d: np.array([1.0]))]
    nodes = grow(simulator, np.zeros(2), policies, "walk", how)
    tree = open_tree(table(_judged(nodes)))
    found = list(splices(tree))
    assert found
    states = _states(simulator, nodes)
    for splice in found:
        assert replay(Corridor(), states, tree, splice)
    wrong = next(s for s in found)
    assert not replay(Corridor(), states, tree, _backwards(wrong)), "the mistake alone does not get there"


def _judged(nodes):
    """A judge that calls walking back a mistake."""
    from dataclasses import replace

    return [replace(n, error=n.generator == "back") for n in nodes]


def _states(simulator, nodes):
    found = {state_digest(np.zeros(2)): np.zeros(2)}
    by_id = {n.id: n for n in nodes}
    for node in nodes:
        start = found[node.state]
        simulator.set_state(start)
        for action in np.reshape(node.values, (-1, node.width)):
            simulator.step(action)
        found[state_digest(simulator.get_state())] = simulator.get_state()
        assert node.parent in by_id or node.parent == ""
    return found


def _backwards(splice):
    from dataclasses import replace

    return replace(splice, right=splice.wrong)


def test_the_command_adds_lists_shows_and_exports(lake, tmp_path, capsys):
    path = tmp_path / "traces.jsonl"
    path.write_text(
        _line([*BEGINNING, ("assistant", "41")], score=0.0) + "\n" + _line([*BEGINNING, ("assistant", "42")], score=1.0)
    )
    assert run(["attempts", "add", str(path), "--as", "agent", "--lake", lake.root]) == 0
    assert run(["attempts", "ls", "--lake", lake.root]) == 0
    assert "agent" in capsys.readouterr().out
    assert run(["attempts", "show", "--lake", lake.root]) == 0
    assert "6 times 7?" in capsys.readouterr().out
    out = tmp_path / "pairs.parquet"
    assert run(["attempts", "export", str(out), "--view", "preference", "--lake", lake.root]) == 0
    (row,) = pq.read_table(out).to_pylist()
    assert row["chosen"][-1]["content"] == "42"
    assert run(["attempts", "export", str(out), "--lake", lake.root]) == 2, "nothing is overwritten"
    assert run(["attempts", "export", str(tmp_path / "x.jsonl"), "--view", "dream", "--lake", lake.root]) == 2
    assert run(["attempts", "export", str(tmp_path / "c.jsonl"), "--view", "credit", "--lake", lake.root]) == 0
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 2
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert run(["attempts", "export", str(tmp_path / "d.jsonl"), "--part", "half", "--lake", lake.root]) == 2
    assert Catalog(lake).latest("attempts").collect()["judged"].to_list() == [2]
