"""Pseudo-gaze: where a robot would look if it looked where it is about to touch. Nobody looked; every row says `pseudo_intent`.

A person's eyes are on the next thing some two to three seconds before the hand (Land and Hayhoe 2001; "just in time"). So the point is
that of the next contact, where the gripper next closes or opens, if that is soon, seen in the present picture; else that of the hand.
It is never mixed with recorded gaze: a dataset that has some gets none of this, and training and evaluation refuse both at once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.gaze.config import GazeConfig
from annotators.gaze.recorded import XY, numbers, vectors, words
from annotators.gaze.source import find_gaze
from annotators.motion.source import MotionSource
from annotators.motion.things import object_streams
from annotators.spans import constant, nothing, span_table
from annotators.traces.hand import Hand, hand_source, read_hand
from annotators.traces.views import choose_camera, open_view, seen_at, view_streams
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import I64, SECOND
from transforms.rotation import F64

PSEUDO = "pseudo_intent"
CONTACT, HAND = "contact", "hand"


@dataclass(frozen=True, slots=True)
class PseudoGazeConfig:
    """What a robot is taken to look at.

    Attributes:
        camera: which one; None: the first exterior one that is calibrated.
        most_s: a contact is looked at from so long before it on.
        tip_m: the tip in the hand's own axes.
    """

    camera: str | None = None
    most_s: float = 2.5
    tip_m: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not self.most_s > 0:
            raise UsageError(f"most_s={self.most_s} must be above 0")


@dataclass(frozen=True, slots=True)
class PseudoGaze:
    """Annotates a robot's steps with what it is about to touch; see the module's text."""

    config: PseudoGazeConfig = field(default_factory=PseudoGazeConfig)

    name: ClassVar[str] = "pseudo_gaze"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("xy", XY),  # shares of the picture
            pa.field("target", NAME),  # contact or hand
            pa.field("until_s", pa.float32()),  # seconds until the contact; null of the hand
            pa.field("source", NAME),  # pseudo_intent
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `PseudoGazeConfig`."""
        return cls(parse_settings(PseudoGazeConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version and configuration."""
        return fingerprint(self.name, self.version, self.settings())

    def usable(self, contract: Contract) -> tuple[MotionSource, Camera] | str:
        """Return the hand and the camera, or why there is nothing to say: `recorded_gaze`, `no_end_effector`, those of `choose_camera`."""
        if not isinstance(find_gaze(contract, GazeConfig()), str):
            return "recorded_gaze"
        source = hand_source(contract)
        if source is None:
            return "no_end_effector"
        camera = choose_camera(contract, self.config.camera, "calibrated")
        return camera if isinstance(camera, str) else (source, camera)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the columns of the hand, the calibration and its signals; empty where nothing can be said."""
        found = self.usable(contract)
        if isinstance(found, str):
            return ()
        source, camera = found
        return (*source.columns, f"K:{camera.name}", *(f"stream:{s}" for s in view_streams(contract, camera)))

    def needs(self, contract: Contract) -> Needs:
        """Ask for the signals that say where the camera is."""
        found = self.usable(contract)
        return Needs() if isinstance(found, str) else Needs(streams=view_streams(contract, found[1]))

    def needs_to_evaluate(self, contract: Contract) -> Needs:
        """Ask for the poses of objects too."""
        found = self.usable(contract)
        if isinstance(found, str):
            return Needs()
        return Needs(streams=(*view_streams(contract, found[1]), *object_streams(contract).values()))

    def run(self, batch: Batch) -> pa.Table:
        """Give every step the point its robot is about to touch; what cannot be placed is in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        found = self.usable(batch.contract)
        if isinstance(found, str):
            return nothing(self, batch, found)
        source, camera = found
        hand = read_hand(batch, source, self.config.tip_m)
        parts = [self._episode(batch, e, camera, hand) for e in range(len(batch.episodes))]
        xy, until, reason = (np.concatenate([p[k] for p in parts]) for k in range(3))
        valid = np.array([r is None for r in reason], np.bool_)
        rows = np.arange(len(valid))
        own: dict[str, Any] = {
            "xy": vectors(xy, valid),
            "target": words(np.where(np.isfinite(until), CONTACT, HAND), valid),
            "until_s": numbers(until, valid),
            "source": words(np.full(len(valid), PSEUDO, object), valid),
        }
        told = pa.array(reason.tolist(), pa.string()).dictionary_encode()
        return span_table(self, batch, rows, rows + 1, told, own, camera=constant(camera.name, len(valid)))

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure whether the point lies on what is touched; see `annotators.gaze.pseudo_evaluation`."""
        from annotators.gaze.pseudo_evaluation import evaluate_pseudo

        return evaluate_pseudo(self, heldout)

    def _episode(self, batch: Batch, episode: int, camera: Camera, hand: Hand) -> tuple[F64, F64, np.ndarray[Any, Any]]:
        """Return points float64[T, 2], seconds until contact float64[T] (NaN: the hand itself), and reasons object[T]."""
        a, b = int(batch.starts[episode]), int(batch.starts[episode + 1])
        mine, view = hand.part(a, b), open_view(batch, episode, camera, hand.tip[:, a:b], "calibrated")
        xy, until, reason = np.full((b - a, 2), np.nan), np.full(b - a, np.nan), np.full(b - a, None, object)
        if isinstance(view, str):
            reason[:] = view
            return xy, until, reason
        target, until = self.targets(batch.t_ns[a:b], mine)
        reason[~mine.finite[target]] = "non_finite_input"
        size = np.array([camera.width, camera.height], np.float64)
        pixels, ahead = seen_at(view, mine.tip[:, target])
        xy = (pixels.T + 0.5) / size
        inside = ahead & ((xy >= 0) & (xy <= 1)).all(1)
        reason[(reason == None) & ~inside] = "out_of_view"  # noqa: E711  # compared element by element
        return xy, until, reason

    def targets(self, t_ns: I64, hand: Hand) -> tuple[I64, F64]:
        """Return the step whose tip each step looks at, int64[T], and the seconds until then, float64[T] (NaN where it is its own)."""
        events = np.flatnonzero(hand.event & hand.finite)
        here = np.arange(len(t_ns))
        coming = np.searchsorted(events, here, side="left")
        soon = np.append(events, len(t_ns) - 1)[np.minimum(coming, len(events))] if len(events) else here
        wait = np.asarray((t_ns[soon] - t_ns) * (1 / SECOND), np.float64)
        takes = (coming < len(events)) & (wait <= self.config.most_s)
        return np.where(takes, soon, here), np.where(takes, wait, np.nan)
