"""Arrow schemas of residual caches: one row per (frame, draw); what all draws of a frame share stands in its first row.

Files hold one record batch of uncompressed columns, so that a mapped file is an array. `episode_index` counts the
episodes of its file; their ids and keys are in the schema's metadata, together with the shapes that the flat columns have.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import pyarrow as pa

from schemas.errors import LakeError

Mode = Literal["frozen_pair", "frozen_teacher_live_student", "online", "regression", "logits", "hidden", "error"]
MODES: tuple[Mode, ...] = get_args(Mode)
SCHEMA_VERSION = 1
METADATA = b"cotrain.residuals"
HEAD = (
    pa.field("episode_index", pa.int64(), nullable=False),
    pa.field("frame_index", pa.int64(), nullable=False),  # step in the episode, as the loader counts it
    pa.field("draw", pa.int16(), nullable=False),
    pa.field("seed", pa.uint64(), nullable=False),  # Philox key: stream 0 is the action's noise
    pa.field("tau_a", pa.float32(), nullable=False),  # canonical, 1 is noise; NaN where the mode has none
    pa.field("tau_v", pa.float32(), nullable=False),  # of the privileged stream; NaN where there is none
)
CHUNKED: tuple[Mode, ...] = ("frozen_pair", "frozen_teacher_live_student", "online", "regression")  # keep the normalised action
SPARSE = ("audit_fp32", "action", "context")
SCALARS = ("r_norm", "v_norm", "gt_err_base", "gt_err_teacher")


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What the flat columns of a cache hold.

    Attributes:
        mode: which columns there are.
        horizon: H, actions per chunk.
        action_dim: A, scalars per action, padding left out.
        width: scalars per action that noise is drawn for, padding included.
        tokens: T, positions with logits.
        top_k: k, kept logits per position.
        vocabulary: size of the token set; ids take 2 bytes up to 65 536.
        hidden: shape of one hidden state.
        noise: whether the action's noise is stored, too.
        context: scalars per frame of the context vector.
    """

    mode: Mode
    horizon: int
    action_dim: int
    width: int
    tokens: int = 0
    top_k: int = 0
    vocabulary: int = 0
    hidden: tuple[int, ...] = ()
    noise: bool = False
    context: int = 0

    @property
    def chunk(self) -> int:
        """H times A."""
        return self.horizon * self.action_dim


@dataclass(frozen=True, slots=True)
class CachedEpisode:
    """Which rows of a file belong to which episode: frames `first`, `first + stride`, ..., `frames` of them, `draws` rows each.

    `content_hash` and `contract` (a digest) say of which recording, read how: loaders join rows of nothing else.
    """

    episode_id: str
    key: str
    dataset: str
    content_hash: str
    contract: str
    first: int
    frames: int
    start_row: int


@dataclass(frozen=True, slots=True)
class CacheHeader:
    """A file's metadata."""

    teacher: str
    cache_key: str
    kind: str
    shape: CacheShape
    draws: int
    video_draws: int
    stride: int
    episodes: tuple[CachedEpisode, ...]
    snr_db: float | None = None
    version: int = SCHEMA_VERSION

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the schema's metadata."""
        return {METADATA: json.dumps(asdict(self), sort_keys=True).encode()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, uri: str) -> Self:
        """Read what `to_metadata` wrote.

        Raises:
            LakeError: the file is not a residual cache of this version.
        """
        text = (metadata or {}).get(METADATA)
        if text is None:
            raise LakeError(f"{uri} is not a residual cache; write it again with `cotrain cache`")
        raw: dict[str, Any] = json.loads(text)
        if raw.get("version") != SCHEMA_VERSION:
            raise LakeError(f"{uri} has version {raw.get('version')}, this version reads {SCHEMA_VERSION}; write it again")
        raw["shape"] = CacheShape(**raw["shape"] | {"hidden": tuple(raw["shape"]["hidden"])})
        raw["episodes"] = tuple(CachedEpisode(**e) for e in raw["episodes"])
        return cls(**raw)


def residual_schema(shape: CacheShape) -> pa.Schema:
    """Return the columns of a cache file, without metadata."""
    body = list(_BODIES[shape.mode](shape))
    if shape.noise:
        body.append(_vector("noise", pa.float16(), shape.chunk))
    if shape.mode in CHUNKED:
        body += [_some("action"), *([_some("context")] if shape.context else [])]
    return pa.schema([*HEAD, *body])


def _vector(name: str, kind: pa.DataType, length: int) -> pa.Field:
    return pa.field(name, pa.list_(pa.field("item", kind, nullable=False), length), nullable=False)


def _pad(shape: CacheShape) -> pa.Field:
    return pa.field("action_is_pad", pa.binary(-(-shape.horizon // 8)), nullable=False)  # bit i of byte i // 8, least first


def _scalars(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.float32(), nullable=False) for name in names]


def _some(name: str) -> pa.Field:
    """Return a column that is null in most rows: float32 values of the audit, or of the first draw alone."""
    return pa.field(name, pa.list_(pa.field("item", pa.float32(), nullable=False)))


def _frozen_pair(shape: CacheShape) -> list[pa.Field]:
    half = pa.float16()
    vectors = [_vector("residual", half, shape.chunk), _vector("v_base", half, shape.chunk)]
    return [*vectors, _pad(shape), *_scalars(*SCALARS), _some("audit_fp32")]


def _frozen_teacher(shape: CacheShape) -> list[pa.Field]:
    return [_vector("v_teacher", pa.float16(), shape.chunk), _pad(shape), *_scalars(*SCALARS), _some("audit_fp32")]


def _online(shape: CacheShape) -> list[pa.Field]:
    return [_pad(shape)]


def _regression(shape: CacheShape) -> list[pa.Field]:
    half = pa.float16()
    vectors = [_vector("residual", half, shape.chunk), _vector("a_base", half, shape.chunk)]
    return [*vectors, _pad(shape), *_scalars(*SCALARS), _some("audit_fp32")]


def _logits(shape: CacheShape) -> list[pa.Field]:
    ids = pa.uint16() if shape.vocabulary <= 1 << 16 else pa.int32()
    kept = shape.tokens * shape.top_k
    vectors = [_vector("token_ids", ids, kept), _vector("token_logp", pa.float16(), kept)]
    return [*vectors, _vector("rest_logp", pa.float16(), shape.tokens), _some("audit_fp32")]


def _hidden(shape: CacheShape) -> list[pa.Field]:
    length = 1
    for size in shape.hidden:
        length *= size
    return [_vector("hidden", pa.float16(), length), _some("audit_fp32")]


def _error(shape: CacheShape) -> list[pa.Field]:
    vectors = [_vector("error", pa.float32(), shape.chunk), _vector("a_base", pa.float32(), shape.chunk)]
    return [*vectors, _pad(shape), *_scalars("gt_err_base")]


_BODIES = {
    "frozen_pair": _frozen_pair, "frozen_teacher_live_student": _frozen_teacher, "online": _online, "regression": _regression,
    "logits": _logits, "hidden": _hidden, "error": _error,
}  # fmt: skip
