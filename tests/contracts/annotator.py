"""What every annotator promises. Inherit `AnnotatorContract` and override its fixtures."""

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotators.base import Annotator, Batch
from annotators.check import check_output
from schemas.annotation import SPAN_COLUMNS, annotation_schema
from schemas.ids import is_slug


class AnnotatorContract:
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
            assert self.rows(annotator, batch.take([place]))[episode] == together[episode]
            assert backwards[episode] == together[episode]

    def test_fingerprint_follows_the_configuration(self, annotator: Annotator, changed: Annotator) -> None:
        assert annotator.fingerprint() == replace(annotator).fingerprint()  # type: ignore[type-var]
        assert annotator.fingerprint() != changed.fingerprint()

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
        bare = Batch(replace(batch.contract, features=(), cameras=(), streams=()), batch.steps.drop_columns(names))
        assert annotator.requires(bare.contract) == ()
        rows = self.rows(annotator, bare)
        assert list(rows) == list(batch.episodes)
        assert not any(r["valid"] for e in rows for r in rows[e])

    def test_names_the_columns_it_reads(self, annotator: Annotator, batch: Batch) -> None:
        read = annotator.requires(batch.contract)
        assert read
        others = [f.name for f in batch.contract.features if f.name not in read]
        narrow = Batch(batch.contract, batch.steps.drop_columns(others))
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

    def test_reports_its_quality_with_baselines(self, annotator: Annotator, batch: Batch) -> None:
        reports = annotator.evaluate(batch)
        assert reports
        for report in reports:
            json.dumps(report.to_dict(), allow_nan=False)
            assert report.gate in ("pass", "fail", "not-measurable")
            assert report.gt_source
            assert (report.value is None) == (report.n_rows == 0)
            assert report.value is None or report.baselines
