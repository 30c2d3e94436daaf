"""Language motions: what the robot does next, as a code and as words, read from its own signals. No model, no pixels.

Rules: `rate`, in seconds and metres (RT-H's idea; sheet of thresholds in `transforms.motion.RateRule`), and `ecot_verbatim`.

Sources, best first: end-effector proprioception; end-effector actions; joints. A robot whose contract only tells joints, and for which
there is no kinematic model, is labelled in joint space from its absolute joint targets: the speed of every named joint against
`w_on`, with the same share, hysteresis and duration rules; joints compete within a limb; fingers become the opening of a hand.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, fingerprint
from annotators.evaluation import QualityReport
from annotators.motion.labels import REASONS, Frame, StepLabels, ecot_labels, make_frame, rate_labels
from annotators.motion.source import MotionSource, Prefer, find_source
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.ecot import ecot_text
from transforms.grid import I64, runs
from transforms.motion import I8, RateRule
from transforms.motion_text import Axis, FrameRef, phrase
from transforms.rotation import F64

SLIGHTLY, QUICKLY = 0.1, 0.3  # metres per second


@dataclass(frozen=True, slots=True)
class LanguageMotionConfig(RateRule):
    """How to label motions; the inherited fields are the thresholds.

    Attributes:
        rule: `rate`, or `ecot_verbatim` for comparison.
        source: `proprio`, `action`, or whichever the contract offers first.
        frame_ref: the axes words refer to: robot base, a camera, the end effector's own, or the user's.
        camera: which camera, for `camera`; None takes the first that is calibrated.
        user_rotation: row-major 3x3 whose columns are the user's forward, left and up in the base frame, for `user`.
        adverbs: say "slightly" below 0.1 m/s and "quickly" above 0.3 m/s.
        max_parts: parts of a sentence.
        words: `(axis, negative, positive)` to use instead of the built-in words.
    """

    rule: Literal["rate", "ecot_verbatim"] = "rate"
    source: Prefer = "auto"
    frame_ref: FrameRef = "base"
    camera: str | None = None
    user_rotation: tuple[float, ...] = ()
    adverbs: bool = False
    max_parts: int = 3
    words: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        RateRule.__post_init__(self)
        choices = {
            "rule": ("rate", "ecot_verbatim"),
            "source": ("auto", "proprio", "action"),
            "frame_ref": ("base", "camera", "ee", "user"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r} is unknown; use {', '.join(known)}")
        if self.frame_ref == "user":
            turn = np.array(self.user_rotation, np.float64)
            square = turn.reshape(3, 3) if turn.size == 9 else np.zeros((3, 3))
            if not np.allclose(square @ square.T, np.eye(3), atol=1e-3) or np.linalg.det(square) < 0:
                raise UsageError("frame_ref='user' needs user_rotation: nine numbers, a row-major rotation matrix")
        if self.max_parts < 1:
            raise UsageError(f"max_parts={self.max_parts} leaves nothing to say; use 1 or more")


@dataclass(frozen=True, slots=True)
class LanguageMotion:
    """Annotates steps with language motions; see the module's text."""

    config: LanguageMotionConfig = field(default_factory=LanguageMotionConfig)

    name: ClassVar[str] = "language_motion"
    version: ClassVar[str] = "2"
    covers: ClassVar[Covers] = "steps"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),
            pa.field("code", pa.list_(pa.int8())),  # one sign per axis; one arm: x, y, z, rx, ry, rz, grip, base
            pa.field("axes", pa.dictionary(pa.int32(), pa.string())),  # names of the code's axes, comma-separated
            pa.field("rate", pa.list_(pa.float32())),  # mean over the span, per axis: m/s, rad/s, opening per window
            pa.field("frame_ref", NAME),  # base, camera, ee, user; joint where the axes are joints
            pa.field("source", NAME),  # proprio or action
            pa.field("margin", pa.float32()),  # mean distance to the nearest threshold, relative to it
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `LanguageMotionConfig`."""
        return cls(parse_settings(LanguageMotionConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version and configuration."""
        return fingerprint(self.name, self.version, self.settings())

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the columns motion is read from; empty where the contract names nothing that moves."""
        source = self.usable(contract)
        return source[0].columns if isinstance(source, tuple) else ()

    def run(self, batch: Batch) -> pa.Table:
        """Label every step; steps that cannot be labelled are in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        labels = self.label(batch)
        return self._nothing(batch, labels) if isinstance(labels, str) else self._rows(batch, labels)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure invariance, robustness, agreement and predictiveness; see `annotators.motion.evaluation`."""
        from annotators.motion.evaluation import evaluate_motion

        return evaluate_motion(self, heldout)

    def usable(self, contract: Contract) -> tuple[MotionSource, Frame] | str:
        """Return the source and frame for a dataset, or the reason why it has none."""
        source = find_source(contract, self.config.source)
        if source is None:
            return "no_motion_source"
        if self.config.rule == "ecot_verbatim" and not (
            len(source.arms) == 1 and source.arms[0].position.representation == "absolute"
        ):
            return "rule_needs_end_effector"
        frame = make_frame(contract, source, self.config.frame_ref, self.config.camera, self.config.user_rotation)
        return frame if isinstance(frame, str) else (source, frame)

    def label(self, batch: Batch) -> StepLabels | str:
        """Return one code per step, or the reason why this dataset cannot have any."""
        usable = self.usable(batch.contract)
        if isinstance(usable, str):
            return usable
        source, frame = usable
        return (
            ecot_labels(batch, source, self.config)
            if self.config.rule == "ecot_verbatim"
            else rate_labels(batch, source, frame, self.config)
        )

    def _texts(self, labels: StepLabels, code: I8, rate: F64) -> tuple[list[str], I64]:
        """Return the distinct texts of codes int8[K, A] with rates float64[K, A], and which one each row has."""
        axes = _renamed(labels.axes, self.config.words)
        rank = _ranks(np.where(code != 0, np.abs(rate) / labels.on, -1.0))
        level = np.zeros_like(code)
        if self.config.adverbs:
            moving = np.array([a.kind == "translation" for a in axes]) & (code != 0)
            level[moving & (np.abs(rate) > QUICKLY)] = 1
            level[moving & (np.abs(rate) < SLIGHTLY)] = -1
        keys, which = _distinct(np.stack([code, np.where(code != 0, rank, np.int8(-1)), level], 1))
        if self.config.rule == "ecot_verbatim":
            return [ecot_text(key[0]) for key in keys], which
        texts: list[str] = []
        for signs, ranks, levels in keys.tolist():
            order = tuple(sorted((i for i, r in enumerate(ranks) if r >= 0), key=ranks.__getitem__))
            texts.append(phrase(axes, tuple(signs), order, tuple(levels), self.config.max_parts))
        return texts, which

    def _rows(self, batch: Batch, labels: StepLabels) -> pa.Table:
        """Run-length encode equal codes; one row per run."""
        changed = np.ones(batch.steps.num_rows, bool)
        changed[1:] = (labels.code[:, 1:] != labels.code[:, :-1]).any(0) | (labels.reason[1:] != labels.reason[:-1])
        changed[batch.starts[:-1]] = True
        first, length = runs(changed)
        reason = labels.reason[first]
        valid, told = reason == 0, labels.code[:, first].T
        rate = np.add.reduceat(labels.rate, first, axis=1).T / length[:, None]
        margin = np.add.reduceat(labels.margin, first) / length
        texts, which = self._texts(labels, told, rate)
        known = bool(np.isfinite(labels.margin[labels.reason == 0]).all())
        own = {
            "text": pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32), mask=~valid), pa.array(texts, pa.string())),
            "code": _lists(told, valid, pa.int8()),
            "axes": _constant(",".join(a.name for a in labels.axes), len(first)),
            "rate": _lists(rate.astype(np.float32), valid & known, pa.float32()),
            "frame_ref": _constant(labels.frame_ref, len(first)),
            "source": _constant(self._kind(batch), len(first)),
            "margin": pa.array(margin.astype(np.float32), mask=~(valid & known)),
        }
        confidence = pa.array(np.minimum(margin, 1.0).astype(np.float32), mask=~(valid & known))
        return self._table(batch, first, first + length, [REASONS[r] for r in reason], confidence, own)

    def _nothing(self, batch: Batch, reason: str) -> pa.Table:
        count = len(batch.episodes)
        own = {f.name: pa.nulls(count, f.type) for f in self.provides}
        return self._table(batch, batch.starts[:-1], batch.starts[1:], [reason] * count, pa.nulls(count, pa.float32()), own)

    def _table(
        self, batch: Batch, first: I64, stop: I64, reasons: list[str | None], confidence: pa.Array, own: Mapping[str, pa.Array]
    ) -> pa.Table:
        """Add the span columns. A span ends where the next step begins, the last one where the episode ends."""
        episode = np.searchsorted(batch.starts, first, side="right") - 1
        last = stop == batch.starts[episode + 1]
        after = np.where(last, batch.end_ns[episode], batch.t_ns[np.minimum(stop, batch.steps.num_rows - 1)])
        values: dict[str, Any] = {
            "episode_id": pa.DictionaryArray.from_arrays(pa.array(episode.astype(np.int32)), pa.array(batch.episodes, pa.string())),
            "start_ns": batch.t_ns[first], "end_ns": after,
            "start_step": (first - batch.starts[episode]).astype(np.int32), "end_step": (stop - batch.starts[episode]).astype(np.int32),
            "camera": pa.nulls(len(first), NAME), "annotator_fp": _constant(self.fingerprint(), len(first)),
            "valid": np.array([r is None for r in reasons]), "reason": pa.array(reasons, pa.string()).dictionary_encode(),
            "confidence": confidence, **own,
        }  # fmt: skip
        schema = annotation_schema(self.provides)
        return pa.table([values[f.name] for f in schema], schema=schema)

    def _kind(self, batch: Batch) -> str:
        source = find_source(batch.contract, self.config.source)
        return source.kind if source is not None else ""


def _ranks(strength: F64) -> I8:
    """Place of each axis by falling strength, int8[K, A]; the earlier axis first where equal."""
    mine, other = strength[:, :, None], strength[:, None, :]
    earlier = np.tril(np.ones((strength.shape[1],) * 2, bool), -1)
    return ((other > mine) | ((other == mine) & earlier)).sum(2).astype(np.int8)


def _distinct(keys: I8) -> tuple[I8, I64]:
    """Return the distinct rows of int8[K, ...] and which of them each row is."""
    rows = np.ascontiguousarray(keys)
    width = int(np.prod(rows.shape[1:]))
    array: Any = pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)]).dictionary_encode()
    first = np.frombuffer(b"".join(array.dictionary.to_pylist()), np.int8).reshape(-1, *rows.shape[1:])
    return first, array.indices.to_numpy().astype(np.int64)


def _renamed(axes: tuple[Axis, ...], words: tuple[tuple[str, str, str], ...]) -> tuple[Axis, ...]:
    new = {name: (negative, positive) for name, negative, positive in words}
    if unknown := sorted(set(new) - {a.name for a in axes}):
        raise UsageError(f"words are given for the axes {unknown}; this dataset has {[a.name for a in axes]}")
    return tuple(Axis(a.name, a.kind, a.who, new.get(a.name, a.words)) for a in axes)


def _constant(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text], pa.string()))


def _lists(rows: Any, valid: Any, kind: pa.DataType) -> pa.Array:
    """Return a list column of `rows` [n, A]; null where not valid."""
    lengths = np.where(valid, rows.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows[valid].reshape(-1), kind), mask=pa.array(~np.asarray(valid)))
