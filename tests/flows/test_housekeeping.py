"""The two small flows: `annotate` and `maintain`."""

from pathlib import Path

import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from flows.annotate import annotate
from flows.maintain import maintain
from pipelines.publish import publish_bytes
from tests.support.toys import ingest_toy

pytestmark = [pytest.mark.usefixtures("prefect_server")]


def test_annotate_runs_an_annotator_over_a_selection(lake: Lake) -> None:
    ingest_toy(lake)
    state = annotate("language_motion", "toy", lake.root, return_state=True)
    assert state.is_completed(), state.message
    assert Catalog(lake).latest("annotations").collect()["annotator"].unique().to_list() == ["language_motion"]
    measured = Catalog(lake).latest("quality").collect()
    assert set(measured["dataset"]) == {"toy"}  # never optional in a flow
    assert set(measured["gate"]) <= {"pass", "fail", "not-measurable"}
    again = annotate("language_motion", "toy", lake.root, return_state=True)
    assert "nothing to do" in str(again.message)


def test_maintain_sweeps_and_compacts(lake: Lake) -> None:
    catalog = Catalog(lake)
    for i in range(10):
        catalog.append("runs", pa.Table.from_pylist([{"run": "r", "stage": "ingest", "rows": i}]), f"u-{i}")
    publish_bytes(lake, b"{}", lake.receipt("u-3"))
    state = maintain(lake.root, return_state=True)
    assert state.is_completed()
    assert state.message == "1 leftovers (0 bytes) removed, 1 tables compacted, 0 old files removed"
    assert not Path(lake.receipt("u-3")).exists()
    assert len(catalog.committed_units("runs")) == 10
