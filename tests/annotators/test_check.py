"""Deliberately broken annotators: each breach of the contract is caught, and told with what and where."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from annotators.base import Batch
from annotators.check import check_output, covered
from annotators.motion.language_motion import LanguageMotion
from annotators.registry import ANNOTATORS, open_annotator
from schemas.annotation import annotation_schema
from schemas.errors import AnnotatorError, UnknownNameError
from tests.support.motion import make_trajectory, sample

BATCH = sample([make_trajectory(s, 3.0) for s in range(3)], 20)


def put(rows: pa.Table, column: str, values: object) -> pa.Table:
    at = rows.schema.get_field_index(column)
    field = rows.schema.field(column)
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, field.type)
    return rows.set_column(at, field, array)


def renamed(rows: pa.Table) -> pa.Table:
    names = [e.replace("ep-0001", "ep-9999") for e in rows.column("episode_id").cast(pa.string()).to_pylist()]
    return put(rows, "episode_id", pa.array(names).dictionary_encode())


def nan_rate(rows: pa.Table) -> pa.Table:
    lists = rows.column("rate").to_pylist()
    lists[0] = [float("nan")] * 8
    return put(rows, "rate", lists)


def shifted(rows: pa.Table) -> pa.Table:
    later = pc.add(rows.column("end_step"), pa.scalar(1, pa.int32()))
    return put(rows, "end_step", later)


BREACHES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "episodes of its own": (renamed, "episodes it was not given"),
    "an episode lost": (lambda t: t.filter(pc.not_equal(t.column("episode_id").cast(pa.string()), "ep-0002")), "lost 1 of 3"),
    "a row lost": (lambda t: pa.concat_tables([t.slice(0, 1), t.slice(2)]), "are in no row"),
    "rows out of order": (lambda t: t.take(pa.array(np.arange(t.num_rows)[::-1])), "grouped by episode|sorted by start"),
    "a span past the end": (shifted, "of an episode of 61"),
    "a span off the clock": (lambda t: put(t, "start_ns", pc.add(t.column("start_ns"), 10**9)), "episode clock"),
    "a NaN in a valid row": (nan_rate, "not finite"),
    "a confidence of two": (lambda t: put(t, "confidence", np.full(t.num_rows, 2, np.float32)), "leaves 0..1"),
    "invalid without a reason": (lambda t: put(t, "valid", [False] * t.num_rows), "invalid without a reason"),
    "valid with a reason": (lambda t: put(t, "valid", [True] * t.num_rows), "has a reason not to be"),
    "another fingerprint": (lambda t: put(t, "annotator_fp", pa.array(["fp-0"] * t.num_rows).dictionary_encode()), "fingerprint fp-0"),
    "a column lost": (lambda t: t.drop_columns(["margin"]), "margin"),
    "another type": (lambda t: t.cast(pa.schema([f.with_type(pa.float64()) if f.name == "margin" else f for f in t.schema])), "margin is double"),
    "a null where none may be": (lambda t: put(t, "start_ns", [None, *t.column("start_ns").to_pylist()[1:]]), "start_ns holds nulls"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken(LanguageMotion):
    breach: str = ""

    def run(self, batch: Batch) -> pa.Table:
        return BREACHES[self.breach][0](LanguageMotion.run(self, batch))


@pytest.mark.parametrize("breach", BREACHES)
def test_every_breach_is_caught(breach: str) -> None:
    annotator = Broken(breach=breach)
    with pytest.raises(AnnotatorError, match=BREACHES[breach][1]):
        check_output(annotator, BATCH, annotator.run(BATCH))


def test_what_keeps_the_contract_passes_unchanged() -> None:
    rows = LanguageMotion().run(BATCH)
    assert check_output(LanguageMotion(), BATCH, rows) is rows


def test_coverage_counts_overlapping_rows_once() -> None:
    rows = LanguageMotion().run(BATCH)
    assert covered(BATCH, pa.concat_tables([rows, rows])).all()
    assert covered(BATCH, rows.slice(0, 1)).sum() == rows.column("end_step")[0].as_py()


def test_own_columns_may_not_shadow_the_common_ones() -> None:
    with pytest.raises(ValueError, match="valid"):
        annotation_schema(pa.schema([pa.field("valid", pa.bool_())]))


def test_the_registry_knows_language_motion_and_suggests_it() -> None:
    assert open_annotator("language_motion", {"v_on": 0.1}).settings()["v_on"] == 0.1
    assert "language_motion" in ANNOTATORS.names()
    with pytest.raises(UnknownNameError, match="language_motion"):
        open_annotator("languge_motion")
