"""Memories made from a lake: successes from episodes and embeddings, corrections from traces."""

import json

import numpy as np
import pytest
import torch

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.memory.corrections import level_of
from pipelines.memory.successes import elite_prior, success_memory, success_segments
from pipelines.shards.reader import open_shard
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.toys import SECOND, ToySource, ingest_toy

HERE = Execution(workers=0)
EMBEDDED = {"hz": 5.0, "side": 64, "texts": False}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class SomeFail(ToySource):
    """Toy episodes of which every second one fails."""

    def episode(self, index: int):
        from dataclasses import replace

        return replace(super().episode(index), success=index % 2 == 0)


@pytest.fixture
def toys(lake: Lake) -> Lake:
    ingest_toy(lake, SomeFail(lengths=(30, 30, 30)))
    run_stage(AnnotateStage.named(lake, "embedding", "all", EMBEDDED), execution=HERE)
    return lake


def test_successes_of_a_lake_carry_progress_and_what_was_done(toys: Lake):
    segments = success_segments(toys, "toy", EMBEDDED, chunk_s=0.4, points=4, camera="front")
    episodes = {r["episode_id"]: r for r in Catalog(toys).latest("episodes").collect().iter_rows(named=True)}
    assert {s.success for s in segments} == {True, False}
    for one in segments:
        row = episodes[one.episode_id]
        steps = open_shard(toys, row["dataset"], row["shard"]).episode_steps(one.episode_id)
        t, done = steps.column("t_ns").to_numpy(), np.stack(steps.column("action").to_pylist())
        assert one.progress == pytest.approx((one.start_ns - t[0]) / (t[-1] - t[0]))
        assert one.end_ns <= t[-1]
        held = [done[np.flatnonzero(t <= one.start_ns + j * SECOND // 10)[-1]] for j in range(4)]
        np.testing.assert_array_equal(np.reshape(one.action, (4, 4)), held)
        assert one.success == row["success"]
    memory = success_memory(segments, "fp")
    assert len(memory) == sum(s.success for s in segments)
    own = next(s for s in segments if s.success)
    prior = elite_prior(memory, np.asarray(own.vector, np.float32), "fp", k=1)
    assert prior.entries == (own.id,)
    np.testing.assert_allclose(prior.action, own.action)
    assert prior.progress == pytest.approx(own.progress)


def test_what_is_not_embedded_is_told(toys: Lake):
    with pytest.raises(UsageError, match="with embedding"):
        success_segments(toys, "toy", {"hz": 3.0})


def _trace(context: str, correction: str) -> str:
    messages = [
        {"role": "user", "content": context}, {"role": "assistant", "content": "I move on."},
        {"role": "user", "content": correction, "correction": True}, {"role": "assistant", "content": "I see."},
    ]  # fmt: skip
    return json.dumps({"task": context, "messages": messages, "model": "m", "success": True})


GIVEN = {
    "wipe the kitchen table with the sponge": "no, more to the left", "pour water into the tall glass": "open the tap first",
    "stack the wooden blocks by size": "slower, please", "fold the blue towel twice": "use the other towel",
}  # fmt: skip


def test_a_correction_that_applies_again_is_found_by_its_context(lake: Lake, tmp_path, capsys):
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(_trace(c, said) for c, said in GIVEN.items()))
    assert run(["attempts", "add", str(path), "--as", "dialogue", "--lake", lake.root]) == 0
    capsys.readouterr()
    asked = ["recall", "--corrections", "dialogue", "--lake", lake.root, "--json", "--top", "1"]
    for context, said in GIVEN.items():
        again = " ".join(context.split()[:-1]) + " again"
        assert run([*asked, again]) == 0
        (found,) = json.loads(capsys.readouterr().out)["found"]
        assert found["correction"] == said
        assert context in found["context"]
        assert found["node"].startswith("n-")
    assert run([*asked, "fold the blue towel", "--level", "skill"]) == 0
    assert json.loads(capsys.readouterr().out)["found"][0]["level"] == "skill"
    assert run([*asked, "fold the blue towel", "--level", "mood"]) == 2
    assert run(asked) == 2


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("skill", ["no, to the right", "a bit higher", "rotate the gripper", "move closer to the cup", "not so far to the left", "go down more", "slower", "gently"]),
        ("plan", ["take the red one instead", "the drawer must be open before that", "that cup is broken", "wash it first", "use the sponge", "do not touch the knife", "the lid belongs to the pot", "ask me before"]),
    ],
)  # fmt: skip
def test_levels_of_corrections_are_told_apart(level, told):
    assert np.mean([level_of(t) == level for t in told]) >= 0.85
