"""What every annotator promises. Inherit `AnnotatorContract` and override its fixtures.

An annotator with weights also overrides `reweighted`, one that looks ahead `clipped`; `tolerance` is for models whose last digits depend
on what else is in a batch, and `said` for what two rates must agree on besides being valid.
"""

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotators.base import Annotator, Batch
from annotators.check import check_output
from annotators.clips import needs_of
from schemas.annotation import SPAN_COLUMNS, annotation_schema
from schemas.ids import is_slug
from transforms.horizon import HORIZON_PAST_END

INSTANTS = 500


class AnnotatorContract:
    tolerance: float = 0.0

    def said(self, row: dict[str, Any]) -> object:
        """What must not depend on the rate at which a motion was recorded."""
        return row["valid"]

    @pytest.fixture
    def annotator(self) -> Any:
        """The annotator under test."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def changed(self) -> Any:
        """The same annotator with another configuration."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        """The same three or more episodes, recorded at two or more rates (Hz)."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def spoilt(self) -> Batch:
        """At least two episodes, the first of which cannot be annotated."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def reweighted(self) -> Any:
        """The same annotator with other weights; None where it has none."""
        return None

    @pytest.fixture
    def clipped(self) -> Any:
        """The same annotator, told to clip its horizon at an episode's end; None where it does not look ahead or cannot."""
        return None

    @pytest.fixture
    def batch(self, rates: dict[int, Batch]) -> Batch:
        return rates[min(rates)]

    def rows(self, annotator: Annotator, batch: Batch) -> dict[str, list[dict[str, Any]]]:
        """Rows per episode, as plain values, checked."""
        result: dict[str, list[dict[str, Any]]] = {}
        for row in check_output(annotator, batch, annotator.run(batch)).to_pylist():
            result.setdefault(row["episode_id"], []).append(row)
        return result

    def test_has_a_name_a_version_and_columns_of_its_own(self, annotator: Annotator) -> None:
        assert is_slug(annotator.name)
        assert annotator.version
        assert annotation_schema(annotator.provides).names[: len(SPAN_COLUMNS)] == [f.name for f in SPAN_COLUMNS]

    def test_travels_to_workers(self, annotator: Annotator) -> None:
        twin = pickle.loads(pickle.dumps(annotator))
        assert twin == annotator
        assert twin.fingerprint() == annotator.fingerprint()

    def test_ids_out_are_ids_in(self, annotator: Annotator, batch: Batch) -> None:
        assert list(self.rows(annotator, batch)) == list(batch.episodes)

    def test_says_the_same_twice_and_leaves_its_input_alone(self, annotator: Annotator, batch: Batch) -> None:
        before = batch.steps.slice(0).combine_chunks()
        assert annotator.run(batch).equals(annotator.run(batch))
        assert batch.steps.equals(before)

    def test_does_not_depend_on_what_else_is_in_the_batch(self, annotator: Annotator, batch: Batch) -> None:
        together = self.rows(annotator, batch)
        backwards = self.rows(annotator, batch.take(list(range(len(batch.episodes)))[::-1]))
        for place, episode in enumerate(batch.episodes):
            assert same(self.rows(annotator, batch.take([place]))[episode], together[episode], self.tolerance)
            assert same(backwards[episode], together[episode], self.tolerance)

    def test_fingerprint_follows_the_configuration(self, annotator: Annotator, changed: Annotator) -> None:
        assert annotator.fingerprint() == replace(annotator).fingerprint()  # type: ignore[type-var]
        assert annotator.fingerprint() != changed.fingerprint()

    def test_fingerprint_follows_the_code(self, annotator: Annotator, monkeypatch: pytest.MonkeyPatch) -> None:
        before = annotator.fingerprint()
        monkeypatch.setattr(type(annotator), "version", annotator.version + "-next")
        assert annotator.fingerprint() != before

    def test_fingerprint_follows_the_weights(self, annotator: Annotator, reweighted: Annotator | None) -> None:
        if reweighted is None:
            pytest.skip("it has no weights")
        assert annotator.settings() == reweighted.settings() or type(annotator) is type(reweighted)
        assert annotator.fingerprint() != reweighted.fingerprint()

    def test_asks_only_for_what_the_contract_declares(self, annotator: Annotator, batch: Batch) -> None:
        needs, read = needs_of(annotator, batch.contract), annotator.requires(batch.contract)
        assert {look.camera for look in needs.looks} <= {c.name for c in batch.contract.cameras}
        assert set(needs.streams) <= {s.name for s in batch.contract.streams}
        kinds = ("rgb", "depth", "mask")
        assert all(any(f"{kind}:{look.camera}" in read for kind in kinds) for look in needs.looks)
        assert all(f"stream:{name}" in read for name in needs.streams)
        assert needs.context_s is None or needs.context_s >= 0

    def test_settings_rebuild_it(self, annotator: Annotator, changed: Annotator) -> None:
        for one in (annotator, changed):
            stored = json.loads(json.dumps(one.settings()))
            assert type(one).from_settings(stored).fingerprint() == one.fingerprint()

    def test_what_cannot_be_annotated_is_said_not_dropped(self, annotator: Annotator, spoilt: Batch) -> None:
        rows = self.rows(annotator, spoilt)
        first, *others = spoilt.episodes
        assert all(not r["valid"] and r["reason"] for r in rows[first])
        assert sum(r["end_step"] - r["start_step"] for r in rows[first]) >= spoilt.starts[1]
        assert any(r["valid"] for e in others for r in rows[e])

    def test_a_dataset_it_cannot_read_gives_invalid_rows(self, annotator: Annotator, batch: Batch) -> None:
        names = [f.name for f in batch.contract.features]
        frames = [c for c in batch.steps.column_names if c.startswith("frame.")]
        contract = replace(batch.contract, features=(), cameras=(), streams=())
        bare = replace(batch, contract=contract, steps=batch.steps.drop_columns([*names, *frames]), clips={}, streams=None)
        assert annotator.requires(bare.contract) == ()
        rows = self.rows(annotator, bare)
        assert list(rows) == list(batch.episodes)
        assert not any(r["valid"] for e in rows for r in rows[e])

    def test_names_the_columns_it_reads(self, annotator: Annotator, batch: Batch) -> None:
        read = annotator.requires(batch.contract)
        assert read
        others = [f.name for f in batch.contract.features if f.name not in read]
        asked = {name.partition(":")[2] for name in read if ":" in name}
        narrow = replace(
            batch, steps=batch.steps.drop_columns(others), clips={c: have for c, have in batch.clips.items() if c in asked},
            streams=batch.streams if any(name.startswith("stream:") for name in read) else None,
        )  # fmt: skip
        assert annotator.run(narrow).equals(annotator.run(batch))

    def test_nothing_in_nothing_out(self, annotator: Annotator, batch: Batch) -> None:
        assert self.rows(annotator, batch.take([])) == {}

    def test_thinks_in_seconds_not_in_frames(self, annotator: Annotator, rates: dict[int, Batch]) -> None:
        slow = 1 / min(rates)
        seconds = {
            hz: np.array(
                [sum(r["end_ns"] - r["start_ns"] for r in rows if r["valid"]) * 1e-9 for rows in self.rows(annotator, b).values()]
            )
            for hz, b in rates.items()
        }
        first = seconds[min(rates)]
        assert first.min() > 0
        for found in seconds.values():
            assert np.abs(found - first).max() <= 2 * slow

    def test_says_the_same_of_the_same_instant_at_every_rate(self, annotator: Annotator, rates: dict[int, Batch]) -> None:
        told = {hz: [self._at_instants(rows) for rows in self.rows(annotator, b).values()] for hz, b in rates.items()}
        first = told[min(rates)]
        for found in told.values():
            agree = [np.mean([a == b for a, b in zip(x, y, strict=True)]) for x, y in zip(first, found, strict=True)]
            assert min(agree) >= 0.9

    def _at_instants(self, rows: list[dict[str, Any]]) -> list[object]:
        """What is said at evenly spread instants, by the row that began last."""
        starts = np.array([r["start_ns"] for r in rows])
        instants = np.linspace(starts[0], max(r["end_ns"] for r in rows), INSTANTS, endpoint=False)
        return [self.said(rows[n]) for n in np.searchsorted(starts, instants, side="right") - 1]

    def test_the_end_of_an_episode_is_invalid_unless_clipping_is_asked_for(
        self, annotator: Annotator, clipped: Annotator | None, batch: Batch
    ) -> None:
        if clipped is None:
            pytest.skip("it does not look ahead, or cannot clip")
        ends = [rows[-1] for rows in self.rows(annotator, batch).values()]
        assert {(r["valid"], r["reason"]) for r in ends} == {(False, HORIZON_PAST_END)}
        assert all(rows[-1]["valid"] for rows in self.rows(clipped, batch).values())
        assert annotator.fingerprint() != clipped.fingerprint()

    def test_reports_its_quality_with_baselines(self, annotator: Annotator, batch: Batch) -> None:
        reports = annotator.evaluate(batch)
        assert reports
        for report in reports:
            json.dumps(report.to_dict(), allow_nan=False)
            assert report.gate in ("pass", "fail", "not-measurable")
            assert report.gt_source
            assert (report.value is None) == (report.n_rows == 0)
            assert report.value is None or report.baselines


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Compare plain values; numbers may differ by `tolerance` of their size."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * max(abs(one), abs(other), 1.0)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], tolerance) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)
