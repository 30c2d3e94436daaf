"""The catalog: exactly-once appends, latest wins, pinned versions, SQL, and names that stay inside the lake."""

import pyarrow as pa
import pytest

from catalog.lake import Lake
from catalog.query import Query, select_episodes
from catalog.tables import Catalog
from schemas.errors import LakeError, UnsafePathError, UsageError


def episodes(*names: str, dataset: str = "toy", steps: int = 1) -> pa.Table:
    n = len(names)
    return pa.table(
        {"episode_id": names, "dataset": [dataset] * n, "source": ["sim"] * n, "shard": ["s"] * n, "steps": [steps] * n,
         "duration_s": [0.5] * n, "first_row": range(n)}
    )  # fmt: skip


def test_a_unit_is_appended_once(lake: Lake) -> None:
    catalog = Catalog(lake)
    assert catalog.append("episodes", episodes("a", "b"), "u1")
    assert not catalog.append("episodes", episodes("a", "b"), "u1")
    assert catalog.scan("episodes").collect().height == 2
    assert catalog.committed("episodes", "u1")
    assert not catalog.committed("episodes", "u2")


def test_the_latest_row_of_a_key_wins_and_history_stays(lake: Lake) -> None:
    catalog = Catalog(lake)
    catalog.append("episodes", episodes("a", "b"), "u1")
    catalog.append("episodes", episodes("a", steps=9), "u2")
    assert dict(catalog.latest("episodes").select("episode_id", "steps").collect().iter_rows()) == {"a": 9, "b": 1}
    assert catalog.scan("episodes").collect().height == 3


def test_a_pinned_version_does_not_move(lake: Lake) -> None:
    catalog = Catalog(lake)
    catalog.append("episodes", episodes("a"), "u1")
    pin = catalog.version("episodes")
    catalog.append("episodes", episodes("b"), "u2")
    assert catalog.latest("episodes", pin).collect()["episode_id"].to_list() == ["a"]


def test_an_absent_table_reads_as_empty_with_its_schema(lake: Lake) -> None:
    catalog = Catalog(lake)
    assert catalog.version("shards") is None
    assert catalog.latest("shards").collect().columns[:2] == ["uri", "shard"]


def test_unknown_columns_are_refused(lake: Lake) -> None:
    with pytest.raises(LakeError, match="extra"):
        Catalog(lake).append("episodes", pa.table({"episode_id": ["a"], "extra": [1]}), "u1")


def test_sql_sees_latest_rows_and_history(lake: Lake) -> None:
    catalog = Catalog(lake)
    catalog.append("episodes", episodes("a", "b"), "u1")
    catalog.append("episodes", episodes("a", steps=9), "u2")
    query = Query(catalog)
    found = query.sql("SELECT source, count(*) AS n, sum(duration_s) AS s FROM episodes GROUP BY source")
    assert found.rows() == [("sim", 2, 1.0)]
    assert query.sql("SELECT count(*) AS n FROM episodes_history").rows() == [(3,)]


def test_a_bad_query_names_the_tables(lake: Lake) -> None:
    with pytest.raises(UsageError, match="episodes"):
        Query(Catalog(lake)).sql("SELECT * FROM nowhere")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", ["a", "b", "c"]),
        ("toy", ["a", "b"]),
        ("steps > 1", ["c"]),
        ("SELECT episode_id FROM episodes WHERE dataset = 'other'", ["c"]),
    ],
)
def test_selectors(lake: Lake, selector: str, expected: list[str]) -> None:
    catalog = Catalog(lake)
    catalog.append("episodes", episodes("a", "b"), "u1")
    catalog.append("episodes", episodes("c", dataset="other", steps=5), "u2")
    assert sorted(select_episodes(catalog, selector)["episode_id"]) == expected


def test_choosing_nothing_is_an_error_that_says_what_there_is(lake: Lake) -> None:
    catalog = Catalog(lake)
    catalog.append("episodes", episodes("a"), "u1")
    with pytest.raises(UsageError, match=r"toy \(1\)"):
        select_episodes(catalog, "nothing")


@pytest.mark.parametrize("part", ["../x", "/etc/passwd", "a/../../b", "", "a\\..\\b"])
def test_paths_never_leave_the_lake(lake: Lake, part: str) -> None:
    with pytest.raises(UnsafePathError):
        lake.path("shards", part)


def test_credentials_are_not_shown(tmp_path) -> None:
    assert "hunter2" not in repr(Lake(str(tmp_path), {"secret": "hunter2"}))
