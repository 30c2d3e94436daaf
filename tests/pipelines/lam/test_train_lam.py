"""`cotrain train-lam`: pictures of a lake in, a checkpoint out, the same whether it was stopped or not; and annotated with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotators.base import in_test
from annotators.clips import Look
from annotators.latent.checkpoint import load_books, read_lam
from annotators.latent.config import Lam
from annotators.latent.learn import Learner
from annotators.weights import load_weights
from catalog.lake import Lake
from pipelines.annotate.pictures import whole_clip
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.lam import Trained, train_lam
from pipelines.lam.films import agent_values, films_of
from pipelines.lam.train import TrainingOptions
from pipelines.record.recording import Header
from pipelines.record.writer import write_episode, write_header
from pipelines.selection import choose, split_groups
from pipelines.shards.reader import open_shard
from pipelines.sources.base import SourceOptions
from pipelines.sources.recording import RecordingSource
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.moving_square import square_lake
from tests.support.toy_simulator import ToySimulator, toy_spec

LAM = Lam().changed({"side": 32, "width": 4, "dim": 3, "horizons_s": "[0.2]", "steps": 9, "batch": 6, "derive": 4})
SPEC = toy_spec(episodes=3, cameras=("front",), tasks=("stack",))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def filmed(lake: Lake) -> Lake:
    return square_lake(lake, episodes=12)


def train(lake: Lake, out: Path, lam: Lam = LAM, **options: Any) -> Trained:
    return train_lam(lake, "all", lam, out, TrainingOptions(**{"device": "cpu", "threads": 1, "curve_every": 2, **options}))


def test_a_run_that_was_stopped_ends_like_one_that_was_not(filmed: Lake, tmp_path: Path) -> None:
    small = 3 * 4 * 32 * 32 * 3  # three films a group: groups change in the middle of everything
    whole = train(filmed, tmp_path / "whole", hold_bytes=small)
    assert (whole.steps, whole.device) == (9, "cpu")
    assert (tmp_path / "whole" / "resume.safetensors").exists() is False
    for stop in (2, 4):
        part = train(filmed, tmp_path / "parts", hold_bytes=small, stop_after=stop)
        assert part.steps == stop
        assert not (tmp_path / "parts" / "lam.safetensors").exists()
    assert train(filmed, tmp_path / "parts", hold_bytes=small).steps == 3
    one, other = (load_weights(tmp_path / name / "lam.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert (load_books(tmp_path / "whole") == load_books(tmp_path / "parts")).all()  # type: ignore[union-attr]
    curves = [json.loads(line) for line in (tmp_path / "parts" / "curves.jsonl").read_text().splitlines()]
    assert [c["step"] for c in curves] == [2, 4, 6, 8, 9]
    assert {"loss", "reconstruction", "bottleneck", "flow", "frames_per_s", "wait_share", "device_busy"} <= curves[-1].keys()


def test_an_interrupted_step_leaves_the_last_state_as_it_was(
    filmed: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(filmed, tmp_path / "m", stop_after=2)
    kept = (tmp_path / "m" / "resume.safetensors").read_bytes()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "_after", interrupted)  # the optimiser has moved the weights by then
    with pytest.raises(KeyboardInterrupt):
        train(filmed, tmp_path / "m")
    assert (tmp_path / "m" / "resume.safetensors").read_bytes() == kept


def test_a_finished_run_is_not_done_again_and_another_one_is_not_mixed_with_it(filmed: Lake, tmp_path: Path) -> None:
    done = train(filmed, tmp_path / "m")
    assert done.frames_per_s > 0
    assert 0 <= done.wait_share <= 1
    again = train(filmed, tmp_path / "m")
    assert (again.steps, again.loss) == (0, None)
    with pytest.raises(UsageError, match=r"another run \(it differs in training\)"):
        train(filmed, tmp_path / "m", LAM.changed({"seed": 1}))
    assert read_lam(tmp_path / "m") == LAM


def test_only_the_half_that_evaluation_does_not_report_on_is_learnt_from(filmed: Lake) -> None:
    films = films_of(filmed, "all", LAM.model)
    episodes = choose(filmed, "all").episodes
    test = in_test(split_groups(episodes))
    learnt = {f.episode for group in films.groups for f in group}
    assert learnt == {e for e, t in zip(episodes["episode_id"], test, strict=True) if not t}
    assert sum(films.pairs) == 3 * len(learnt)


def test_visits_give_every_group_its_batches_in_every_epoch(filmed: Lake) -> None:
    films = films_of(filmed, "all", LAM.model, hold_bytes=3 * 4 * 32 * 32 * 3)
    each = [count // 4 for count in films.pairs]
    visits = list(films.visits(4, 0, 0, 2 * sum(each)))
    assert len(films.groups) > 1
    for epoch in (0, 1):
        mine = [v for v in visits if v.epoch == epoch]
        assert sorted((v.group, v.skip, v.stop) for v in mine) == [(g, 0, n) for g, n in enumerate(each) if n]
    for start in range(2 * sum(each)):
        left = sum(v.stop - v.skip for v in films.visits(4, 0, start, 2 * sum(each)))
        assert left == 2 * sum(each) - start
    with pytest.raises(UsageError, match="fewer than one batch"):
        list(films.visits(10_000, 0, 0, 1))


def test_pictures_too_far_apart_are_no_pairs(filmed: Lake) -> None:
    with pytest.raises(UsageError, match="no two pictures"):
        films_of(filmed, "all", LAM.changed({"horizons_s": "[60.0]"}).model)


def test_an_agent_needs_a_segmentation_to_be_found_in(filmed: Lake) -> None:
    with pytest.raises(UsageError, match=r"no segmentation in which hand, 3 could be found"):
        films_of(filmed, "all", LAM.model, agent=("hand", "3"))


def test_an_agent_is_found_by_name_in_the_masks_of_its_camera(lake: Lake, tmp_path: Path) -> None:
    simulator, out = ToySimulator(SPEC), tmp_path / "recording"
    write_header(out, Header(SPEC, simulator.contract(("stack",))))
    for scene in SPEC.seeds:
        write_episode(out, simulator.contract(("stack",)), simulator.run("stack", scene), gop=8)
    run_stage(IngestStage(lake, RecordingSource(str(out), SourceOptions("toy"))), execution=Execution(workers=0))
    films = films_of(lake, "all", LAM.model, agent=("thin*", "4"))  # the toy calls value 1 a thing
    ((pool, broken),) = films.pools(list(films.visits(6, 0, 0, 1)), threads=1)
    assert broken == []
    assert pool.agent is not None
    at = 0
    for film in films.groups[0]:
        seen = whole_clip(open_shard(lake, "toy", film.shard), film.episode, Look("segmentation.front"))
        values = np.isin(seen.pictures, (1, 4))[:, ::2, ::2]  # nearest of 64 by 64 pixels
        assert np.array_equal(pool.agent[at], values[0])
        at += film.pictures
    assert at == len(pool.agent) == len(pool.pictures)
    assert agent_values(("a*", "7"), None) == (7,)


def test_the_command_trains_and_annotates(filmed: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"--set={k}={v}" for k, v in (("side", 32), ("width", 4), ("steps", 3), ("batch", 6), ("horizons_s", "[0.2]"))]
    assert run(["train-lam", "squares", "--lake", filmed.root, "--device", "cpu", "--json", *small]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert (trained["steps"], trained["films"]) == (3, trained["pairs"] // 3)
    with_model = ["annotate", "squares", "--with", "latent_action", "--checkpoint", trained["path"], "--lake", filmed.root]
    assert run([*with_model, "--json", "--workers", "0", "--set", "least_gain=-9.0", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out)["annotators"][0]
    assert told["rows"] == 12 * 4
    assert run(["annotate", "squares", "--with", "picture_quality", "--checkpoint", "x", "--lake", filmed.root]) == 2
    assert "no annotator named takes a checkpoint" in capsys.readouterr().err
