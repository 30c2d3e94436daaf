import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.segments.config import PHASES
from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.evaluation import asked_of, evaluate_text
from annotators.text.judge import judged
from annotators.text.kinds.plans import plan_steps
from annotators.text.scene import scenes
from annotators.text.text import Text
from annotators.text.verify.blind import Asked, blind_hits, place_p_value, within_hits
from annotators.text.verify.derive import Truth
from annotators.text.verify.grounding import grounded
from annotators.text.verify.round_trip import read_code, says_the_same
from schemas.contract import Camera
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.motion import batch_of
from tests.support.scripts import CUP, make_script, sample_scripts
from transforms.language.lexicon import Lexicon

TASK = "put the red cup on the plate"


def told(batch: Batch, task: str = TASK) -> Batch:
    at = batch.steps.column_names.index("language")
    field = batch.steps.field(at)
    return replace(batch, steps=batch.steps.set_column(at, field, pa.array([task] * batch.steps.num_rows).cast(field.type)))


def rows_of(batch: Batch, annotator: Text) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


class TestContract(AnnotatorContract):
    @pytest.fixture
    def annotator(self) -> Any:
        return Text(TextConfig(kinds=("implausible",), before=(("reach", "grasp"), ("grasp", "release"))))

    @pytest.fixture
    def changed(self) -> Any:
        return Text(TextConfig(kinds=("implausible",), before=(("reach", "grasp"),)))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: sample_scripts([1, 3, 5], hz, truth=False) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = sample_scripts([1, 3], 10, truth=False)
        state = np.stack(whole.steps.column("observation.state").to_pylist()).T
        state[0, : whole.starts[1]] = np.nan
        cups = np.stack(whole.steps.column(CUP).to_pylist()).T
        return batch_of(whole.contract, whole.t_ns, np.diff(whole.starts).tolist(), {"observation.state": state, CUP: cups})


@pytest.fixture(scope="module")
def batch() -> Batch:
    return told(sample_scripts([0, 1, 2, 4, 5, 6], 10, truth=False))


@pytest.fixture(scope="module")
def text(batch: Batch) -> Text:
    return Text(TextConfig(support=2)).calibrated(batch)


@pytest.fixture(scope="module")
def drafts(batch: Batch, text: Text) -> list[list[Draft]]:
    return text.drafts(batch)


def test_every_kind_says_something_and_passes_its_gates(
    batch: Batch, text: Text, monkeypatch: pytest.MonkeyPatch, drafts: Any
) -> None:
    monkeypatch.setattr(Text, "drafts", lambda _self, _batch: drafts)
    kinds = {d.kind for some in drafts for d in some if d.reason is None}
    assert kinds == {*text.config.kinds, "plan_step"}
    reports = {r.metric: r for r in evaluate_text(text, batch)}
    assert {m for m, r in reports.items() if r.gate == "fail"} <= {"anticipation_ed"}
    assert reports["qa_derived"].value == 1
    rows = rows_of(batch, text)
    assert {r["style"] for r in rows if r["kind"] == "paraphrase" and r["valid"]} == {"task_aug"}
    assert all(r["posterior"] == (r["kind"] == "rationale") for r in rows)
    assert all(json.loads(r["text"])["answer"] == r["answer"] for r in rows if r["kind"] == "qa" and r["valid"])
    assert all(r["style"] is None for r in rows if r["kind"] == "goal" and r["answer"] == "not reached")


def test_answers_hold_in_the_script_that_made_the_recording(drafts: list[list[Draft]]) -> None:
    """The truth at 1 kHz, which neither the generator nor its verifier has seen."""
    asked = 0
    for seed, some in zip([0, 1, 2, 4, 5, 6], drafts, strict=True):
        script = make_script(seed)
        for d in (d for d in some if d.kind == "qa" and d.reason is None):
            begin, end = d.first * 100, min((d.stop - 1) * 100, script.cup.shape[1] - 1)
            if d.template == "displaced":
                assert (d.answer == "yes") == bool(np.linalg.norm(script.cup[:, end] - script.cup[:, 0]) > 0.05)
            elif d.template == "gripper":
                assert (d.answer == "open") == bool(script.opening[begin] > 0.65)
            else:
                phases = script.phase[max(0, end - 350) :]  # segments begin up to 0.35 s from where they should
                following = [PHASES[p] for p in phases[np.append(True, phases[1:] != phases[:-1])]]
                words = (d.answer or "").replace("move away", "retract").split()[0]
                verb = {"move": "transport", "wait": "idle"}.get(words, words)
                assert verb in (following[:3] if d.template == "next_act" else following)
            asked += 1
    assert asked > 40


def test_a_blind_guesser_learns_nothing(batch: Batch, drafts: list[list[Draft]]) -> None:
    asked = asked_of(batch, drafts)
    hits, chance = blind_hits(asked)
    assert hits.mean() <= chance.mean() + 0.05
    assert within_hits(asked) == pytest.approx(chance)
    assert place_p_value(asked) > 0.01


def test_a_blind_guesser_finds_what_is_unbalanced() -> None:
    """The adversarial twin: one answer too frequent, and always first."""
    asked = [Asked(f"e{n}", "open?", ("yes", "no"), int(n % 5 == 0)) for n in range(50)]
    hits, chance = blind_hits(asked)
    assert hits.mean() > chance.mean() + 0.2
    assert place_p_value(asked) < 0.01


def test_rationales_never_use_the_future(batch: Batch, drafts: list[list[Draft]]) -> None:
    reasons = [d for d in drafts[0] if d.kind == "rationale"]
    assert reasons
    only = Text(TextConfig(kinds=("rationale",)))
    for d in reasons[:3]:
        one = batch.take([0])
        state, cup = (np.stack(one.steps.column(c).to_pylist()).T for c in ("observation.state", CUP))
        rng = np.random.default_rng(d.first)
        state[:3, d.stop :] += rng.normal(size=(3, state.shape[1] - d.stop)) * 0.2
        cup[:, d.stop :] += 0.5
        other = batch_of(one.contract, one.t_ns, [one.steps.num_rows], {"observation.state": state, CUP: cup})
        assert d.text in [o.text for o in only.drafts(other)[0] if o.first == d.first and o.kind == "rationale"]


def test_what_breaks_a_rule_is_refused_and_says_why(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotators.text.kinds import rationale as module

    monkeypatch.setattr(module, "WORDS", (("forward", "backward"), ("left", "right"), ("up", "down")))
    rows = rows_of(batch.take([0]), Text(TextConfig(kinds=("rationale",))))
    assert {(r["valid"], r["reason"]) for r in rows} == {(False, "not_round_trip")}


def test_verifiers_refuse_what_is_wrong(batch: Batch, text: Text, drafts: list[list[Draft]]) -> None:
    """The adversarial twin of every verifier: one good draft of each kind, spoilt."""
    scene, truth = scenes(batch, None)[0], Truth(batch)
    good = {
        k: next(d for d in drafts[0] if d.kind == k and d.reason is None)
        for k in ("qa", "rationale", "paraphrase", "implausible", "goal")
    }
    wrong = next(c for c in good["qa"].choices if c != good["qa"].answer)
    far = {**good["rationale"].slots, "distance_m": 9.0}  # as told by a generator that looked ahead
    reworded = {**good["qa"].slots, "asked_first": good["qa"].question}
    spoilt = {
        "not_derived": replace(good["qa"], answer=wrong), "not_no_hint": replace(good["qa"], question=f"Is it {wrong}?", slots=reworded),
        "not_causal": replace(good["rationale"], slots=far), "not_grounded": replace(good["paraphrase"], text=f"{TASK} by the stove"),
        "not_in_cell": replace(good["paraphrase"], text=TASK, distance=(0.0, 1.0, 1.0, "lexical")),
        "not_violates": replace(good["implausible"], slots={"acts": [list(p.act) for p in scene.parts]}),
        "not_reached": replace(good["goal"], answer="reached" if good["goal"].answer != "reached" else "not reached"),
    }  # fmt: skip
    for name, draft in good.items():
        assert judged(replace(draft, verdicts={}), scene, truth, 0, text.config).reason is None, name
    for reason, draft in spoilt.items():
        assert judged(replace(draft, verdicts={}), scene, truth, 0, text.config).reason == reason


def test_questions_of_a_dataset_with_a_camera_are_events_of_it(batch: Batch) -> None:
    seen = replace(batch.take([0]), contract=replace(batch.contract, cameras=(Camera("front"),)))
    rows = [r for r in rows_of(seen, Text(TextConfig(kinds=("qa",)))) if r["valid"]]
    assert {(r["style"], r["camera"]) for r in rows} == {("vqa", "front")}


def test_readers_read_what_is_said_and_nothing_else() -> None:
    assert read_code("so move left and down") == (0, 1, -1)
    assert read_code("move left and right") is None
    assert read_code("the cup is left") is None
    words = Lexicon()
    assert says_the_same("I need the basin to be set on the platter", "put the bowl on the plate", words)
    assert not says_the_same("put the bowl on the stove", "put the bowl on the plate", words)
    assert not says_the_same("put the bowl inside and open the top drawer", "open the top drawer and put the bowl inside", words)
    assert grounded("can the basin be moved", ("bowl",), words)
    assert not grounded("move the bowl to the stove", ("bowl",), words)


def test_plans_follow_the_words_and_miss_what_is_not_there(batch: Batch) -> None:
    assert [a for a, _ in plan_steps("turn on the stove")] == [("reach", "stove"), ("push", "stove")]
    assert plan_steps("dance") == []
    rows = rows_of(told(batch.take([0]), "rotate the red cup"), Text(TextConfig(kinds=("plan",), least_aligned=1.0)))
    assert [(r["valid"], r["reason"]) for r in rows if r["kind"] == "plan"] == [(False, "not_aligned")]
    assert "no_segment_for_step" in {r["reason"] for r in rows}


def test_bad_settings_are_named() -> None:
    with pytest.raises(UsageError, match="kinds="):
        TextConfig(kinds=("poem",))
    with pytest.raises(UsageError, match="needs replies="):
        TextConfig(model="http://localhost/v1#m")
