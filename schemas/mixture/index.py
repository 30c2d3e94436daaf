"""The Arrow schema of a mixture's `index.arrow`."""

import pyarrow as pa

_NAME = pa.dictionary(pa.int32(), pa.string())
INDEX = pa.schema(
    [
        pa.field("source", _NAME, nullable=False),
        pa.field("split", _NAME, nullable=False),  # `train` or `val`
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("dataset", _NAME, nullable=False),
        pa.field("shard", _NAME, nullable=False),
        pa.field(
            "first_row", pa.int64(), nullable=False
        ),  # of its first item, in the shard's steps: the episode's, or later under `drop`
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("item_offset", pa.int64(), nullable=False),  # number of its first step within (source, split)
    ]
)
# Of a mixture with weights: a row is a run of steps of equal weight, and an item is a copy of a step.
WEIGHTED_INDEX = INDEX.append(pa.field("weight", pa.int64(), nullable=False))  # of each step, in units of 2^-20
