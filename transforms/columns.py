"""Arrow columns as numpy arrays: the one place that knows how a feature of a given shape is laid out in a steps table."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.contract import Feature


def feature_array(steps: pa.Table, feature: Feature) -> npt.NDArray[Any]:
    """Return a numeric feature of a steps table as [n, *shape], without copying where Arrow's layout allows it.

    A missing value of a float feature is NaN; of any other dtype it is an error, as numpy has no way to say it.

    Raises:
        KeyError: the table has no such column.
        ValueError: an integer or boolean feature has missing values.
    """
    column = steps.column(feature.name)
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_fixed_size_list(chunk.type):
        if chunk.null_count:
            return _with_gaps(chunk, feature)
        chunk = chunk.flatten()
    if chunk.null_count:
        if not pa.types.is_floating(chunk.type):
            raise ValueError(
                f"{feature.name} is {feature.dtype} and misses {chunk.null_count} values; declare it float to allow gaps"
            )
        chunk = chunk.fill_null(np.nan)
    copied = pa.types.is_boolean(chunk.type)
    return chunk.to_numpy(zero_copy_only=not copied).reshape(steps.num_rows, *feature.shape)


def _with_gaps(chunk: Any, feature: Feature) -> npt.NDArray[Any]:
    if not np.issubdtype(np.dtype(feature.dtype), np.floating):
        raise ValueError(f"{feature.name} is {feature.dtype} and misses {chunk.null_count} rows; declare it float to allow gaps")
    result = np.full((len(chunk), feature.size), np.nan, np.dtype(feature.dtype))
    present = chunk.is_valid().to_numpy(zero_copy_only=False)
    result[present] = chunk.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, feature.size)
    return result.reshape(len(chunk), *feature.shape)
