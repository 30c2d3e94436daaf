"""What a memory holds: a vector, which model made it, and what it stands for."""

import pyarrow as pa

KEY = "key"  # the column of vectors
MODEL_KEY, NORM_KEY = b"cotrain.model", b"cotrain.longest"  # metadata: fingerprint of the encoder, largest length of a vector


def memory_schema(width: int) -> pa.Schema:
    """Return the schema of a memory whose vectors have `width` numbers."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),  # unique; ties are in order of it
            pa.field("episode_id", pa.string()),
            pa.field("start_ns", pa.int64()),  # episode clock
            pa.field("end_ns", pa.int64()),
            pa.field("camera", pa.string()),
            pa.field("kind", pa.string(), nullable=False),  # picture, text, correction, ...
            pa.field("said", pa.string()),
            pa.field("payload", pa.string()),  # JSON: whatever else it stands for
            pa.field(KEY, pa.list_(pa.float16(), width), nullable=False),
        ]
    )
