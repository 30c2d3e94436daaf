"""Memories: what they hold, what they refuse, what they are used for, and the command."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from catalog.tables import Catalog
from pipelines.cli.app import run
from pipelines.memory.build import MemoryStage
from pipelines.memory.corrections import correction_events, correction_memory, level_of
from pipelines.memory.store import Entry, Memory, open_memory
from pipelines.memory.successes import Segment, elite_prior, success_memory
from pipelines.memory.uses import candidates, recall_at
from pipelines.unit import run_stage
from schemas.attempts import Node, Turn, table
from schemas.errors import DataError, UsageError
from tests.support.mixtures import ingest_two_toys
from transforms.attempts.tree import open_tree
from transforms.calibration import Calibration, calibration_error

MODEL = "fp-test"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _entries(vectors: np.ndarray, **more) -> list[Entry]:
    return [Entry(f"m{i:03d}", v, "picture", **more) for i, v in enumerate(vectors)]


def test_rows_are_in_order_of_id_whatever_order_they_came_in():
    vectors = np.eye(4, dtype=np.float32)
    there, back = Memory.of(_entries(vectors), MODEL), Memory.of(_entries(vectors)[::-1], MODEL)
    assert there.table.equals(back.table)
    assert there.ask(np.ones((1, 4), np.float32), 4, MODEL).rows.tolist() == [[0, 1, 2, 3]], "ties in order of id"


def test_vectors_of_another_encoder_are_refused():
    memory = Memory.of(_entries(np.eye(3)), MODEL)
    with pytest.raises(UsageError, match="cannot be compared"):
        memory.ask(np.ones((1, 3), np.float32), 1, "fp-other")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "at least one"),
        ([Entry("a", [1.0], "x"), Entry("a", [2.0], "x")], "twice"),
        ([Entry("a", [1.0], "x"), Entry("b", [1.0, 2.0], "x")], "one width"),
        ([Entry("a", [1e6], "x")], "not finite"),
    ],
)
def test_what_cannot_be_remembered_is_named(entries, words):
    with pytest.raises(DataError, match=words):
        Memory.of(entries, MODEL)


def test_a_kind_is_searched_alone():
    memory = Memory.of([*_entries(np.eye(3)), Entry("z", [1.0, 1.0, 1.0], "text", payload={"a": 1})], MODEL)
    found = memory.ask(np.ones((1, 3), np.float32), 2, MODEL, "text")
    assert found.rows.tolist() == [[3, -1]]
    assert memory.entry(3)["payload"] == {"a": 1}


def test_the_command_builds_and_recalls_by_picture_and_by_word(lake, tmp_path, capsys):
    ingest_two_toys(lake)
    base = ["recall", "--lake", lake.root, "--json"]
    assert run([*base, "--build", "--of", "toy_a", "--set", "hz=10.0", "--set", "side=64"]) == 0
    capsys.readouterr()
    memory = open_memory(lake, "lake", "picture")
    episodes = Catalog(lake).latest("episodes").collect()
    entry = memory.entry(len(memory) // 2)
    asked = f"{entry['episode_id']}@{entry['start_ns'] * 1e-9 + 1e-4}@{entry['camera']}"
    assert run([*base, "--frame", asked, "--top", "3"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert (found[0]["episode_id"], found[0]["camera"]) == (entry["episode_id"], entry["camera"])
    assert found[0]["score"] > 0.999
    assert run([*base, "the task number 1"]) == 0
    assert json.loads(capsys.readouterr().out)["found"][0]["task"] == "task 1"
    assert episodes.height == 10
    again = run_stage(MemoryStage(lake, "lake", "text", "toy_a", (("hz", "10.0"), ("side", "64"))))
    assert again.worked == 0
    assert run([*base]) == 2
    assert run([*base, "--memory", "none", "x"]) == 2
    assert run([*base, "--frame", "no-such.png"]) == 2


def _segments(count: int = 30) -> list[Segment]:
    """Succeeding episodes act as their state says; one failing episode acts against it."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        state = rng.normal(size=4)
        state /= np.linalg.norm(state)
        good = i % 5 != 0
        action = state[:2] if good else -10 * np.ones(2)
        made.append(Segment(f"s{i:02d}", state, f"ep-{i}", 0, 10**9, 0.5, action, good))
    return made


def test_only_successes_are_remembered_and_their_mean_is_the_softmax():
    memory = success_memory(_segments(), MODEL)
    assert len(memory) == 24
    query = memory.keys[3].astype(np.float32)
    prior = elite_prior(memory, query, MODEL, k=5, temperature=0.2)
    found = memory.ask(query[None], 5, MODEL)
    weight = np.exp(found.scores[0] / 0.2)
    expected = (weight / weight.sum()) @ np.array([memory.entry(int(r))["payload"]["action"] for r in found.rows[0]])
    np.testing.assert_allclose(prior.action, expected)
    assert prior.entries[0] == memory.entry(3)["id"]
    assert np.abs(prior.action).max() < 1.01, "no failure speaks"


def test_progress_must_not_fall_and_something_must_have_succeeded():
    a = Segment("a", [1.0], "ep", 0, 1, 0.6, [0.0], True)
    b = Segment("b", [1.0], "ep", 1, 2, 0.4, [0.0], True)
    with pytest.raises(UsageError, match="progress falls"):
        success_memory([a, b], MODEL)
    with pytest.raises(UsageError, match="none of 1"):
        success_memory([Segment("c", [1.0], "ep", 0, 1, 0.0, [0.0], False)], MODEL)


def test_confidence_is_calibrated_on_held_out_retrievals():
    rng = np.random.default_rng(1)
    similarity = rng.random(4000)
    right = rng.random(4000) < similarity**3
    fitted = Calibration.fit(similarity[:2000], right[:2000])
    said = np.array([fitted.probability(x) for x in similarity[2000:]])
    assert calibration_error(said, right[2000:]) < 0.05
    assert calibration_error(similarity[2000:], right[2000:]) > 0.15, "similarity itself is no probability"


def test_corrections_are_found_again_and_cite_their_source():
    root = Node("agent", "environment", turns=(Turn("user", "put the cup in the sink"),), task="cup")
    events, nodes = ["no, more to the left", "first open the drawer", "close the gripper slower"], [root]
    for i, said in enumerate(events):
        step = root.child(kind="agent", author="model", turns=(Turn("assistant", f"step {i}"),))
        nodes += [step, step.child(kind="correction", author="human", turns=(Turn("user", said),))]
    found = sorted(correction_events(open_tree(table(nodes))), key=lambda e: e.context)
    assert [e.level for e in found] == ["skill", "plan", "skill"]
    assert all("step" in e.context for e in found)
    vectors = np.eye(3, dtype=np.float32)
    memory = correction_memory(found, vectors, MODEL)
    noisy = vectors + 0.1 * np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    assert recall_at(memory, noisy, [{e.node} for e in found], 1, MODEL) == 1
    assert recall_at(memory, noisy[::-1].copy(), [{e.node} for e in found], 1, MODEL) < 1, "shuffled queries must not"
    assert all(memory.entry(r)["payload"]["cites"] == [memory.entry(r)["id"]] for r in range(3))
    assert level_of("grasp the other mug") == "plan"


def test_candidates_near_the_target_carry_the_ratio_and_keep_the_expert():
    """Prior N(0, 1), target N(1.5, 0.5): the score of the nearest target vector must order candidates as the true ratio does."""
    rng = np.random.default_rng(0)
    prior, target = rng.normal(size=800), 1.5 + 0.5 * rng.normal(size=60)
    memory = Memory.of([Entry(f"p{i:03d}", _circle(x), "picture", payload={"x": float(x)}) for i, x in enumerate(prior)], MODEL)
    names = candidates(memory, np.stack([_circle(x) for x in target]).astype(np.float32), MODEL, 40, always=["expert"])
    assert names[0] == "expert"
    log_ratio = {f"p{i:03d}": -((x - 1.5) ** 2) / 0.5 + x**2 / 2 for i, x in enumerate(prior)}
    chosen = set(names) - {"expert"}
    rank = [float(n in chosen) for n in log_ratio]
    assert spearmanr(rank, list(log_ratio.values())).statistic > 0.4
    inside = np.mean([log_ratio[n] for n in chosen])
    assert inside > np.mean([v for n, v in log_ratio.items() if n not in chosen]) + 1


def _circle(x: float) -> list[float]:
    return [float(np.cos(x / 2)), float(np.sin(x / 2))]
