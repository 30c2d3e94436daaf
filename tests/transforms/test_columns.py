"""Arrow columns of every layout a steps table may have, as numpy."""

import numpy as np
import pyarrow as pa
import pytest

from schemas.contract import Feature
from transforms.columns import feature_array


def vector(rows, width=3, dtype=np.float32):
    flat = np.arange(rows * width, dtype=dtype)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), width), flat.reshape(rows, width)


def test_vectors_share_memory_even_when_sliced():
    column, want = vector(6)
    found = feature_array(pa.table({"x": column}).slice(2, 3), Feature("x", "float32", (3,)))
    assert np.array_equal(found, want[2:5])
    assert not found.flags.writeable  # a view of Arrow's buffer


def test_scalars_matrices_booleans_and_chunks():
    table = pa.table({"s": pa.array([1, 2], pa.int64()), "b": pa.array([True, False])})
    assert feature_array(table, Feature("s", "int64", ())).tolist() == [1, 2]
    assert feature_array(table, Feature("s", "int64", (1,))).shape == (2, 1)
    assert feature_array(table, Feature("b", "bool", ())).tolist() == [True, False]
    column, want = vector(4, 6)
    table = pa.concat_tables([pa.table({"x": column.slice(0, 1)}), pa.table({"x": column.slice(1)})])
    assert np.array_equal(feature_array(table, Feature("x", "float32", (2, 3))), want.reshape(4, 2, 3))


def test_gaps():
    table = pa.table({"x": pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float64(), 2)), "i": pa.array([1, None, 2])})
    found = feature_array(table, Feature("x", "float64", (2,)))
    assert np.array_equal(found, [[1, 2], [np.nan, np.nan], [3, np.nan]], equal_nan=True)
    with pytest.raises(ValueError, match="misses 1 values"):
        feature_array(table, Feature("i", "int64", ()))
