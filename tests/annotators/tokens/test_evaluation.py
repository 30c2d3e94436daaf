from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from annotators.evaluation import QualityReport
from annotators.tokens.action_tokens import ActionTokens
from annotators.tokens.evaluation import METRICS, evaluate_tokens, next_token_accuracy, prepare, shuffled
from annotators.tokens.order import accuracies, entropy
from tests.support.tokens import arm, book_of, tokens_of
from transforms.codec.action import ActionCodec, Coded
from transforms.codec.base import Tokens
from transforms.codec.fast import FastCodec

SEEDS = tuple(range(8))


def reports(annotator: ActionTokens, hz: int = 20, twin: object = None) -> dict[str, QualityReport]:
    return {r.metric: r for r in evaluate_tokens(annotator, arm(hz, SEEDS), twin)}  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["fast", "bins", "beast"])
def test_every_metric_comes_with_a_baseline(scheme: str) -> None:
    found = reports(tokens_of(book_of(scheme)))
    assert tuple(found) == METRICS
    assert found["integer_inverse"].value == 1.0
    assert found["bound_kept"].gate == "pass"
    assert found["round_trip_rmse"].gate == "pass"
    assert (found["oov_rate"].gate == "not-measurable") == (scheme != "fast")
    each = found["round_trip_rmse"].detail["per_dimension"]
    assert len(each) == 7
    assert all(v["rmse"] <= v["max"] for v in each.values())


def test_errors_are_in_the_units_of_the_data() -> None:
    annotator, batch = tokens_of(book_of("bins")), arm(20, SEEDS)
    trial = prepare(annotator, batch.part("test"))
    assert not isinstance(trial, str)
    coded = trial.codec.encode(trial.actions)
    told = reports(annotator)["round_trip_rmse"].detail["per_dimension"]
    error = np.abs(coded.decoded - trial.actions)
    assert [v["max"] for v in told.values()] == pytest.approx(error.max((0, 1)).tolist())
    assert [v["rmse"] for v in told.values()] == pytest.approx(np.sqrt((error**2).mean((0, 1))).tolist())


@dataclass
class Clamping:
    """The public processor as a twin: clamps to its alphabet, answers zeros on errors, and says that all is well."""

    inner: ActionCodec

    def encode(self, actions: np.ndarray) -> Coded:
        y = np.clip(self.inner.affine.encode(actions, clip=False), -0.5, 0.5)
        coded = self.inner.encode(self.inner.affine.decode(y))
        return replace(coded, ok=np.ones(len(actions), bool))

    def decode(self, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        found, ok = self.inner.decode(tokens)
        return np.where(ok[:, None, None], found, self.inner.affine.decode(np.zeros_like(found))), np.ones(len(tokens), bool)


def test_a_tokenizer_that_clamps_and_answers_zeros_fails_its_gates() -> None:
    annotator = tokens_of(book_of())
    codec = book_of().pages[1].codec
    found = reports(annotator, twin=Clamping(codec))
    assert found["bound_kept"].gate == "fail"
    assert found["integer_inverse"].gate == "fail"
    assert found["integer_inverse"].detail["cut_off_streams_read_silently"] == 1.0


def test_tokens_in_random_order_fail_the_gate_of_order() -> None:
    trial = prepare(tokens_of(book_of()), arm(20, SEEDS))
    assert not isinstance(trial, str)
    coded = trial.codec.encode(trial.actions)
    honest = next_token_accuracy(trial, coded)
    twin = next_token_accuracy(trial, replace(coded, tokens=shuffled(coded.tokens, seed=5)))
    assert twin.gate == "fail"
    assert honest.value is not None
    assert honest.value > honest.baselines["shuffled_order"]


def test_an_alphabet_that_is_too_small_fails_the_gate_of_strangers() -> None:
    book = book_of()
    page = book.pages[1]
    assert isinstance(page.codec.chunks, FastCodec)
    small = replace(page.codec.chunks.vocabulary, low=-2, high=2, merges=())
    codec = replace(page.codec, chunks=replace(page.codec.chunks, vocabulary=small))
    twin = replace(book, pages=(replace(page, codec=codec),))
    found = reports(tokens_of(twin))
    assert found["oov_rate"].gate == "fail"
    assert found["bound_kept"].value == 1.0  # escaped, not clamped
    assert found["oov_rate"].baselines["chunks_clamped_by_public_fast"] > 0.5


def test_an_unseen_robot_gets_ranges_of_its_own_and_is_said_to_be_unseen() -> None:
    batch = arm(20, SEEDS)
    other = replace(batch, contract=replace(batch.contract, embodiment="another"))
    found = {r.metric: r for r in evaluate_tokens(tokens_of(book_of()), other)}
    assert "never seen" in found["oov_rate"].split
    assert found["integer_inverse"].value == 1.0
    assert {r.gate for r in evaluate_tokens(ActionTokens(), batch)} == {"not-measurable"}
    assert {r.gate for r in evaluate_tokens(tokens_of(book_of()), batch.take([]))} == {"not-measurable"}


def test_entropy_and_accuracy_are_those_of_the_textbook() -> None:
    from scipy.stats import entropy as reference

    ids = np.random.default_rng(0).integers(0, 9, 500).astype(np.uint16)
    counts = list(Counter(ids.tolist()).values())
    assert entropy(ids) == pytest.approx(reference(counts, base=2))
    cycle = Tokens.of([[1, 2, 3] * 5] * 4)
    hits, total = accuracies(cycle, np.array([0, 0, 1, 1]))
    assert hits.tolist() == total.tolist() == [15.0] * 4  # the first token too: every chunk begins alike
    common, _ = accuracies(cycle, np.array([0, 0, 1, 1]), order=1)
    assert common.tolist() == [5.0] * 4
    hits, _ = accuracies(Tokens.of([[1, 2], [3, 4]]), np.array([0, 1]))
    assert hits.tolist() == [0.0, 0.0]
