from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.tokens.action_tokens import ActionTokens, ActionTokensConfig
from annotators.tokens.book import TokenBook, TokenizerSpec, fit_book
from annotators.tokens.chunks import action_space, column_of
from schemas.contract import Feature, Part
from schemas.errors import UsageError
from tests.contracts.annotator import AnnotatorContract
from tests.support.tokens import arm, book_of, tokens_of, with_actions
from transforms.codec.base import Tokens


class TestFastContract(AnnotatorContract):
    scheme = "fast"
    options: ClassVar[dict[str, float]] = {}

    @pytest.fixture
    def annotator(self, tmp_path: Path) -> Any:
        return saved(book_of(self.scheme, **self.options), tmp_path / "one.json")

    @pytest.fixture
    def changed(self, tmp_path: Path) -> Any:
        return saved(book_of(self.scheme, horizon_s=0.5), tmp_path / "two.json", max_saturated=0.4)

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: arm(hz) for hz in (10, 20, 50)}

    @pytest.fixture
    def spoilt(self) -> Batch:
        whole = arm(20)
        actions = column_of(whole.steps, "action")
        actions[: whole.starts[1] : 10] = np.nan
        return with_actions(whole, actions)


class TestBinsContract(TestFastContract):
    scheme = "bins"


class TestBeastContract(TestFastContract):
    scheme = "beast"
    options: ClassVar[dict[str, float]] = {"tolerance": 1.0}  # at every rate, all chunks are within it


def saved(book: TokenBook, path: Path, **config: Any) -> ActionTokens:
    path.write_bytes(book.to_json())
    return ActionTokens.from_settings({"tokenizer": str(path), **config})


def rows(annotator: ActionTokens, batch: Batch) -> list[dict[str, Any]]:
    return check_output(annotator, batch, annotator.run(batch)).to_pylist()


@pytest.mark.parametrize("scheme", ["fast", "bins", "beast"])
def test_ids_alone_give_the_actions_back_within_the_bound(scheme: str) -> None:
    annotator, batch = tokens_of(book_of(scheme)), arm(20)
    told = [r for r in rows(annotator, batch) if r["valid"]]
    page = TokenBook.from_json(book_of(scheme).to_json()).pages[1]
    assert page.space.hz == 20
    actions = column_of(batch.steps, "action")
    for row in told:
        got, ok = page.codec.decode(Tokens.of([row["ids"]]))
        first = batch.starts[batch.episodes.index(row["episode_id"])] + row["start_step"]
        want = actions[first : first + 20]
        assert ok[0]
        assert row["ok"]
        gap = (got[0] - want)[:, ~page.codec.affine.constant] / page.codec.affine.half_width[~page.codec.affine.constant]
        assert np.abs(gap).max() == pytest.approx(row["max_err"], rel=1e-5)
        clipped = page.codec.affine.encode(want[None], clip=page.codec.chunks.clips)
        assert page.codec.chunks.bound.holds(clipped, page.codec.affine.encode(got, clip=False))[0]
        assert row["n_tokens"] == len(row["ids"])
    assert len(told) == 16
    assert {r["stats_fp"] for r in told} == {page.codec.affine.fingerprint()}
    assert {r["stages"] for r in told} == {",".join(page.codec.stages)}
    assert {r["tokenizer_id"] for r in told} == {book_of(scheme).tokenizer_id}


def test_fast_is_shorter_and_coarser_than_bins() -> None:
    fast, bins = ([r for r in rows(tokens_of(book_of(s)), arm(20)) if r["valid"]] for s in ("fast", "bins"))
    assert {r["n_tokens"] for r in bins} == {140}
    assert np.mean([r["n_tokens"] for r in fast]) < 60
    assert np.mean([r["rmse"] for r in fast]) > 2 * np.median([r["rmse"] for r in bins])


def test_what_cannot_be_a_chunk_says_why() -> None:
    batch = arm(20, (0, 1))
    late = batch.steps.column("t_ns").to_numpy().copy()
    late[30:40] += 40_000_000
    import pyarrow as pa

    steps = batch.steps.set_column(batch.steps.column_names.index("t_ns"), batch.steps.schema.field("t_ns"), pa.array(late))
    contract = replace(batch.contract, last_action_valid=False)
    found = rows(tokens_of(book_of()), Batch(contract, steps.slice(0, 161)))
    assert [r["reason"] for r in found] == [
        None,
        "clock_gap",
        None,
        None,
        "horizon_past_end",
        None,
        None,
        None,
        "last_action_invalid",
    ]
    assert all(r["ids"] is None and r["n_tokens"] is None for r in found if not r["valid"])


def test_a_chunk_beyond_the_ranges_is_not_valid() -> None:
    batch = arm(20, (0,))
    actions = column_of(batch.steps, "action")
    actions[20:40] += 5.0
    found = rows(tokens_of(book_of("bins")), with_actions(batch, actions))
    assert found[1]["reason"] == "saturated"
    assert found[1]["saturated"] > 0.5
    assert found[0]["valid"]


def test_a_spline_that_cannot_follow_is_not_valid_though_it_decodes() -> None:
    batch = arm(20, (0,))
    actions = column_of(batch.steps, "action")
    actions[:20] *= np.where(np.arange(20) % 2, 1, -1)[:, None]
    found = rows(tokens_of(book_of("beast"), max_saturated=1.0), with_actions(batch, actions))
    assert found[0]["reason"] == "bound_exceeded"
    assert found[0]["max_err"] > 0.1


def test_overlapping_chunks_on_request() -> None:
    annotator, batch = tokens_of(book_of(), stride_s=0.25), arm(20, (0,))
    found = rows(annotator, batch)
    assert [r["start_step"] for r in found if r["valid"]] == list(range(0, 61, 5))
    half = {r["start_step"]: r["ids"] for r in rows(tokens_of(book_of()), batch)}
    assert all(half[s] == r["ids"] for r in found for s in [r["start_step"]] if s in half)


def test_statistics_are_never_pooled_across_robots_columns_or_rates() -> None:
    contract = arm(20).contract
    keys = {
        action_space(c, 1.0).key  # type: ignore[union-attr]
        for c in (contract, replace(contract, embodiment="other"), replace(contract, control_hz=10.0))
    }
    assert len(keys) == 3
    found = rows(tokens_of(book_of(rates=(10,))), arm(20))
    assert {r["reason"] for r in found} == {"space_not_in_tokenizer"}
    assert {r["reason"] for r in rows(ActionTokens(), arm(20))} == {"no_tokenizer"}
    state = action_space(contract, 1.0, "observation.state")
    assert not isinstance(state, str)
    assert state.units == ("m", "m", "m", "", "", "", "", "")
    assert (action_space(replace(contract, control_hz=None), 1.0), action_space(contract, 0.02)) == (
        "no_control_rate",
        "horizon_too_short",
    )


def test_a_text_or_privileged_action_is_none() -> None:
    contract = replace(
        arm(20).contract,
        features=(
            Feature("action", "string", (), role="action"),
            Feature("other", "float32", (2,), role="action", privileged=True),
        ),
    )
    assert action_space(contract, 1.0) == "no_action"
    parts = (Part("ee_position", 0, 2, unit="m"), Part("gripper", 2, 3))
    known = replace(
        contract, features=(Feature("action", "float32", (3,), ("x", "y", "g"), role="action", unit="rad", parts=parts),)
    )
    space = action_space(known, 1.0)
    assert not isinstance(space, str)
    assert (space.names, space.units) == (("x", "y", "g"), ("m", "m", ""))


def test_a_tokenizer_is_its_content(tmp_path: Path) -> None:
    one, copy = tmp_path / "a.json", tmp_path / "b.json"
    first, second = saved(book_of(), one), saved(book_of(), copy)
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != saved(book_of("bins"), tmp_path / "c.json").fingerprint()
    for text in (
        "{}",
        "[]",
        '{"format": "cotrain-tokenizer", "version": 2}',
        "no json",
        one.read_text().replace('"merges":[[', '"merges":[[99999,0],['),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError):
            ActionTokens.from_settings({"tokenizer": str(tmp_path / "bad.json")})
    with pytest.raises(UsageError, match="train-tokenizer"):
        ActionTokens.from_settings({"tokenizer": str(tmp_path / "absent.json")})
    for bad in ({"stride_s": 0.0}, {"max_saturated": 2.0}):
        with pytest.raises(UsageError):
            ActionTokensConfig(**bad)
    for spec in ({"horizon_s": 0.0}, {"scheme": "morse"}, {"vocabulary": -1}):
        with pytest.raises(UsageError):
            TokenizerSpec(**spec)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no actions"):
        fit_book(TokenizerSpec(), [])
