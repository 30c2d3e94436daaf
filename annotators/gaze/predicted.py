"""Predicted gaze: where somebody who wore this camera would probably have looked. Rows say `predicted`, and are never recorded gaze.

By a network trained on the user's own recordings (`cotrain train-gaze`), by a function of the user's, or, without either, by priors: the
middle of the picture, the hand, what moves by itself. Maps are not stored: the point, its spread and the weights give them again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Look, Needs, colour_cameras
from annotators.depth.depth_tokens import HOLD_S, spans
from annotators.evaluation import QualityReport
from annotators.gaze.config import GazeConfig
from annotators.gaze.labels import Labelled, hands, squared, windows_of
from annotators.gaze.predictors import Function, Predictor, Priors, Sees, function_hash, open_network
from annotators.gaze.priors import Centre
from annotators.gaze.recorded import RECORDED, XY, RecordedGaze, numbers, vectors, words
from annotators.spans import constant, nothing, span_table
from annotators.traces.views import PIXEL
from annotators.weights import hash_weights
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Camera, Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.gaze.maps import F32, peak_point
from transforms.rotation import F64

NEAR = 0.1  # of the picture; the share of a map this close to its peak is a row's confidence


@dataclass(frozen=True, slots=True)
class PredictedGazeConfig:
    """What predicts, and from what.

    Attributes:
        weights: file of a trained network, see `cotrain train-gaze`.
        function: a function `module:function` that takes pictures uint8[frames, side, side, 3] and returns a map [H, W].
        camera: whose pictures; None: the first that looks where the head does, else the first colour camera.
        frames: pictures the function, or the priors, are shown; a network knows its own.
        hz: how many of them per second.
        side: of the square that they are stretched to.
        centre_xy: the priors' middle, shares of the picture.
        centre_sigma: its spread.
        prior_weights: of middle, hand and own motion.
    """

    weights: str = ""
    function: str = ""
    camera: str | None = None
    frames: int = 8
    hz: float = 4.0
    side: int = 128
    centre_xy: tuple[float, float] = (0.5, 0.5)
    centre_sigma: float = 0.15
    prior_weights: tuple[float, float, float] = (0.5, 0.3, 0.2)

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: names the field.
        """
        if self.weights and self.function:
            raise UsageError(f"weights={self.weights} and function={self.function} both predict; name one")
        if self.frames < 1 or self.side < 16 or not self.hz > 0 or not self.centre_sigma > 0 or min(self.prior_weights) < 0:
            raise UsageError("frames must be 1 or more, side 16 or more, hz and centre_sigma above 0, prior_weights not negative")


@dataclass(frozen=True, slots=True)
class PredictedGaze:
    """Annotates pictures with predicted gaze; see the module's text."""

    config: PredictedGazeConfig = field(default_factory=PredictedGazeConfig)

    name: ClassVar[str] = "predicted_gaze"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "frame"
    tuned: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("xy", XY),  # highest cell of the map, shares of the picture
            pa.field("spread", pa.float32()),  # standard deviation of the map around its own mean, share of the picture
            pa.field("source", NAME),  # predicted, or predicted_pseudo_intent where a robot's pseudo-gaze was learnt
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; weights and function are looked at at once, so that a wrong name is told early.

        Raises:
            UsageError: they cannot be read.
        """
        made = cls(parse_settings(PredictedGazeConfig, settings))
        made.fingerprint()
        made.predictor()
        return made

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, the content of weights or function, and torch."""
        plain = {k: v for k, v in self.settings().items() if k != "weights"}
        weights = hash_weights(self.config.weights) if self.config.weights else ()
        code = function_hash(self.config.function) if self.config.function else ()
        return fingerprint(self.name, self.version, plain, (*weights, *code), ("torch",))

    def predictor(self) -> Predictor:
        """Open what predicts."""
        config = self.config
        if config.weights:
            return open_network(config.weights)
        sees = Sees(config.frames, config.hz, config.side)
        if config.function:
            return Function(config.function, sees)
        centre = Centre(np.array(config.centre_xy), np.eye(2) * config.centre_sigma**2)
        return Priors(sees, config.prior_weights, centre, max(8, config.side // 4))

    def camera(self, contract: Contract) -> Camera | None:
        """Return the camera it looks through; None where a dataset has no colour camera."""
        named = colour_cameras(contract, () if self.config.camera is None else (self.config.camera,))
        return min(named, key=lambda c: c.role != "ego", default=None)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the camera, and the signal of the hand where the priors use it."""
        needs = self.needs(contract)
        return (*(f"rgb:{look.camera}" for look in needs.looks), *(f"stream:{s}" for s in needs.streams))

    def needs(self, contract: Contract) -> Needs:
        """Ask for pictures at the predictor's rate and size."""
        camera = self.camera(contract)
        if camera is None:
            return Needs()
        sees = self.predictor().sees
        hand = () if self.config.weights or self.config.function else _hand_streams(contract, camera)
        reach = (sees.frames + 1) / sees.hz + HOLD_S
        return Needs((Look(camera.name, (sees.side, sees.side), sees.hz),), hand, reach)

    def needs_to_evaluate(self, contract: Contract) -> Needs:
        """Ask for recorded gaze and the hand too."""
        camera, needs = self.camera(contract), self.needs(contract)
        if camera is None:
            return needs
        streams = (*needs.streams, *_hand_streams(contract, camera), *RecordedGaze(self.gaze(camera)).needs(contract).streams)
        return Needs(needs.looks, tuple(dict.fromkeys(streams)), None)

    def run(self, batch: Batch) -> pa.Table:
        """Predict for every picture; a row holds until the next one."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        camera = self.camera(batch.contract)
        if camera is None or camera.name not in batch.clips:
            return nothing(self, batch, "no_colour_camera")
        predictor, clips = self.predictor(), batch.clips[camera.name]
        first, stop, shown = spans(batch, clips)
        made = [
            predictor.maps(unlabelled(batch, e, camera, predictor.sees), batch.at_once, batch.device) for e in range(len(clips))
        ]
        held = np.array([p >= 0 for _, p in shown], np.bool_)
        maps = [made[e][p] for e, p in shown if p >= 0]
        points, spread, sure = (np.full((len(held), *s), np.nan) for s in ((2,), (), ()))
        if maps:
            points[held], spread[held], sure[held] = told(np.stack(maps))
        source = "predicted" if predictor.labels == RECORDED else f"predicted_{predictor.labels}"
        own: dict[str, Any] = {
            "xy": vectors(points, held), "spread": numbers(spread, held), "source": words(np.full(len(held), source, object), held),
        }  # fmt: skip
        reasons = [None if h else "no_picture" for h in held.tolist()]
        camera_column = constant(camera.name, len(held))
        return span_table(self, batch, first, stop, reasons, own, camera=camera_column, confidence=numbers(sure, held))

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure against recorded fixations of the test half, with every prior; see `annotators.gaze.predicted_evaluation`."""
        from annotators.gaze.predicted_evaluation import evaluate_predicted

        return evaluate_predicted(self, heldout)

    def gaze(self, camera: Camera) -> GazeConfig:
        """Return how recorded gaze is read for this camera."""
        return GazeConfig(camera=camera.name)


def unlabelled(batch: Batch, episode: int, camera: Camera, sees: Sees) -> Labelled:
    """Return every picture of an episode as something to be predicted; nobody's gaze is in it."""
    clip = batch.clips[camera.name][episode]
    count = len(clip)
    hand = hands(batch, camera)[int(batch.starts[episode]) + clip.step] if count else np.empty((0, 2))
    nowhere = np.full((count, 2), np.nan)
    window = windows_of(clip, sees.frames, sees.hz) if count else np.empty((0, sees.frames), np.int64)
    owner = np.full(count, episode, np.int64)
    return Labelled(squared(clip, sees.side), window, nowhere, owner, nowhere, hand, "none", batch.episodes, camera)


def told(maps: F32) -> tuple[F64, F64, F64]:
    """Return the highest cell float64[N, 2], the spread float64[N], and the share of each map near its highest cell float64[N]."""
    height, width = maps.shape[1:]
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    weight = maps.astype(np.float64)
    peak = peak_point(maps)
    mean = np.stack([weight.sum(1) @ across, weight.sum(2) @ down], 1)
    squares = np.stack([weight.sum(1) @ across**2, weight.sum(2) @ down**2], 1)
    variance = np.maximum(squares - mean**2, 0).mean(1)
    away = np.hypot(across[None, None] - peak[:, :1, None], down[None, :, None] - peak[:, 1:, None])
    return peak, np.sqrt(variance), np.minimum((weight * (away <= NEAR)).sum((1, 2)), 1.0)


def _hand_streams(contract: Contract, camera: Camera) -> tuple[str, ...]:
    known = {s.name for s in contract.streams}
    return tuple(n for p in PIXEL if (n := p + camera.name) in known)
