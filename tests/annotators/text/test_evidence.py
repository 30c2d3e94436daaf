"""What rationales add to the state, what two readers agree on, and what anticipation may know of the future."""

import json

import numpy as np
import pytest

from annotators.text.config import TextConfig
from annotators.text.evaluation import LEAST_ROWS, action_lift, agreement, evaluate_text
from annotators.text.evidence import evidence
from annotators.text.text import Text
from annotators.text.verify.derive import Truth
from tests.annotators.text.test_text import told
from tests.support.motion import batch_of
from tests.support.scripts import CUP, sample_scripts


def linear(gain: float, count: int = 1200) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Actions that are state plus `gain` times text plus noise of deviation 0.5."""
    rng = np.random.default_rng(0)
    state, text = rng.normal(size=(count, 2)), rng.normal(size=(count, 2))
    return state, text, state + gain * text + 0.5 * rng.normal(size=(count, 2)), [f"e{n % 30}" for n in range(count)]


def test_lift_is_that_of_the_closed_form() -> None:
    """Two Gaussian dimensions: each tells 0.5 log(1 + gain^2 / 0.5^2) nats."""
    found = evidence(*linear(1.0))
    assert found.lift.mean() == pytest.approx(np.log(1 + 1 / 0.25), abs=0.08)
    assert found.without == pytest.approx(1.25, rel=0.1)
    assert found.with_text == pytest.approx(0.25, rel=0.1)


def test_words_that_say_nothing_lift_nothing() -> None:
    """The adversarial twin."""
    found = evidence(*linear(0.0))
    assert found.lift.mean() < 0.01
    assert found.with_text >= 0.99 * found.without


def test_rationales_tell_more_of_the_movement_than_the_state_does() -> None:
    batch = told(sample_scripts(list(range(24)), 10, truth=False))
    reports = {r.metric: r for r in evaluate_text(Text(TextConfig(kinds=("rationale",))), batch)}
    found = reports["rationale_lift"]
    assert found.gate == "pass"
    assert found.n_rows >= LEAST_ROWS
    assert found.value > 0 > found.baselines["another_row"]
    assert found.detail["mse_with_text_cm2"] < 0.8 * found.detail["mse_state_cm2"]
    assert found.detail["mse_with_another_row_cm2"] > found.detail["mse_state_cm2"]


def test_rationales_of_other_rows_do_not_pass() -> None:
    """The adversarial twin on the same recordings: every rationale is that of another movement."""
    batch, text = told(sample_scripts(list(range(24)), 10, truth=False)), Text(TextConfig(kinds=("rationale",)))
    drafts = text.drafts(batch)
    words = [d.text for some in drafts for d in some if d.reason is None]
    turned = iter(words[len(words) // 3 :] + words[: len(words) // 3])
    wrong = [[d if d.reason else _saying(d, next(turned)) for d in some] for some in drafts]
    assert action_lift(batch, wrong, Truth(batch)).gate == "fail"


def _saying(draft, words):
    from dataclasses import replace

    return replace(draft, text=words)


def test_two_readers_agree_and_shuffled_ones_do_not() -> None:
    batch, text = told(sample_scripts([0, 1, 2, 4], 10, truth=False)), Text(TextConfig(kinds=("qa",)))
    drafts, truth = text.drafts(batch), Truth(batch)
    found = agreement(batch, drafts, truth, text.config.moved_m)
    assert found.gate == "pass"
    assert found.value >= 0.7 > 0.3 > found.baselines["another_row"]
    asked = [d for some in drafts for d in some if "derived" in d.verdicts]
    answers = iter([d.answer for d in asked[7:] + asked[:7]])
    wrong = [[_answering(d, next(answers)) if "derived" in d.verdicts else d for d in some] for some in drafts]
    assert agreement(batch, wrong, truth, text.config.moved_m).gate == "fail", "the adversarial twin"


def _answering(draft, answer):
    from dataclasses import replace

    return replace(draft, answer=answer)


def test_what_is_anticipated_is_told_from_the_seen_part_alone() -> None:
    """Another ending changes what came, and neither what was observed nor the goal told from it."""
    one = told(sample_scripts([5], 10, truth=False))
    state, cup = (np.stack(one.steps.column(c).to_pylist()).T for c in ("observation.state", CUP))
    seen = int(np.searchsorted(one.t_ns, one.t_ns[0] + 0.5 * (one.t_ns[-1] - one.t_ns[0]), side="right"))
    state[:3, seen:] = state[:3, seen - 1 : seen]  # the hand rests from there on
    cup[:, seen:] += np.array([[0.4], [0.4], [0.0]])
    other = told(batch_of(one.contract, one.t_ns, [one.steps.num_rows], {"observation.state": state, CUP: cup}))
    text = Text(TextConfig(kinds=("anticipation",)))
    first, second = (json.loads(text.run(b).to_pylist()[0]["slots"]) for b in (one, other))
    assert first["observed"] == second["observed"]
    assert first["goal"] == second["goal"]
    assert first["future"] != second["future"]
