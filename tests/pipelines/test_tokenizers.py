import json

import pytest

from annotators.tokens.action_tokens import ActionTokens, read_book
from annotators.tokens.book import TokenizerSpec
from catalog.lake import Lake
from pipelines.cli.app import run
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.sources.base import SourceOptions
from pipelines.tokenizers import find_tokenizer, train_tokenizer, with_tokenizer
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.support.motion import ArmSource

HERE = Execution(workers=0)


@pytest.fixture
def arms(lake: Lake) -> Lake:
    run_stage(IngestStage(lake, ArmSource(seeds=tuple(range(6)))), execution=HERE)
    run_stage(IngestStage(lake, ArmSource(seeds=(7, 8), hz=10.0, options=SourceOptions("slow"))), execution=HERE)
    return lake


def test_a_tokenizer_is_fitted_once_and_named_by_its_content(arms: Lake) -> None:
    first, again = train_tokenizer(arms), train_tokenizer(arms)
    assert (first.path, first.book) == (again.path, again.book)
    assert len(arms.fs.find(arms.path("tokenizers"))) == 1
    assert read_book(first.path) == first.book
    assert [p.space.hz for p in first.book.pages] == [10.0, 20.0]
    assert train_tokenizer(arms, "arm").path != first.path
    assert find_tokenizer(arms, first.book.tokenizer_id) == first.path


def test_half_of_the_episodes_is_left_to_the_evaluation(arms: Lake) -> None:
    halves = train_tokenizer(arms, "arm").book.pages[0]
    everything = train_tokenizer(arms, "arm", TokenizerSpec(fit_on="all")).book.pages[0]
    assert everything.episodes == 6
    assert 0 < halves.episodes < 6
    assert (halves.whole, everything.whole) == (False, True)
    assert everything.codec.affine != halves.codec.affine


def test_a_selection_without_actions_is_refused(arms: Lake) -> None:
    with pytest.raises(UsageError, match="arm: no_action"):
        train_tokenizer(arms, "arm", TokenizerSpec(column="observation.effort"))
    with pytest.raises(UsageError, match="chunk"):
        train_tokenizer(arms, "arm", TokenizerSpec(horizon_s=60.0))
    assert with_tokenizer(arms, "arm", {"max_saturated": 0.3})["max_saturated"] == 0.3


def test_the_annotator_fits_its_own_where_none_is_named(arms: Lake) -> None:
    settings = with_tokenizer(arms, "arm", {"scheme": "bins", "horizon_s": "0.5"})
    assert ActionTokens.from_settings(settings).book == train_tokenizer(arms, "arm", TokenizerSpec("bins", 0.5)).book
    named = with_tokenizer(arms, "arm", {"tokenizer": train_tokenizer(arms).book.tokenizer_id})
    assert ActionTokens.from_settings(named).book == train_tokenizer(arms).book
    with pytest.raises(UsageError, match="made already"):
        with_tokenizer(arms, "arm", {"tokenizer": "x", "scheme": "bins"})


def test_the_command_says_where_the_tokenizer_is(arms: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train-tokenizer", "arm", "--lake", arms.root, "--scheme", "beast", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert read_book(told["path"]).tokenizer_id == told["tokenizer"]
    assert run(["train-tokenizer", "arm", "--lake", arms.root, "--scheme", "morse"]) == 2
    assert "morse" in capsys.readouterr().err
