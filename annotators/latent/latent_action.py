"""`latent_action`: what happens between two pictures, as the numbers or codes of a model trained by `cotrain train-lam`.

One row per picture kept, horizon and colour camera, about what happens until the picture that is nearest to a horizon later. Every picture
is encoded once, whichever pairs it is in. `gain` says how much of the change in the picture the latent explains; where that is nothing, the
row is invalid. That a latent explains pictures does not mean that it holds actions: `--evaluate` says what it holds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.clips import Look, Needs, colour_cameras
from annotators.evaluation import QualityReport, not_measurable
from annotators.latent.checkpoint import hash_checkpoint, load_books, read_lam
from annotators.latent.config import Lam
from annotators.latent.pairs import Pairs, pairs_in
from annotators.latent.pool import squares
from annotators.spans import episodes_of, nothing, span_table
from schemas.annotation import annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.grid import BOOL
from transforms.horizon import HORIZON_PAST_END, Boundary

if TYPE_CHECKING:
    from annotators.latent.inference import Latents

NO_PICTURE, NO_CAMERA, NO_CHECKPOINT, NO_GAIN = "no_picture", "no_colour_camera", "no_checkpoint", "explains_nothing"


@dataclass(frozen=True, slots=True)
class LatentActionConfig:
    """Which model looks at what.

    Attributes:
        checkpoint: folder that `cotrain train-lam` wrote; empty: rows say that there is none.
        cameras: whose pictures; empty: all colour cameras that are not privileged.
        hz: at most this many pictures per second.
        boundary: `invalid` says so where the episode ends before the horizon, `clip` takes its last picture.
        judge: whether to decode too and to say how much of the change is explained; the decoder takes most of the time.
        least_gain: rows that explain no more than this are invalid; None: all are valid.
        camera_motion: whether to say how far the background moved; optical flow takes a millisecond per row.
    """

    checkpoint: str = ""
    cameras: tuple[str, ...] = ()
    hz: float = 5.0
    boundary: Boundary = "invalid"
    judge: bool = True
    least_gain: float | None = 0.0
    camera_motion: bool = True

    def __post_init__(self) -> None:
        if not self.hz > 0:
            raise UsageError(f"hz={self.hz} makes no sense; use a positive rate")


@dataclass(frozen=True, slots=True)
class LatentAction:
    """Annotates pairs of pictures with latent actions; see the module's text.

    Attributes:
        trained: False gives the same model before it was trained, which quality is compared with.
    """

    config: LatentActionConfig = field(default_factory=LatentActionConfig)
    trained: bool = True

    name: ClassVar[str] = "latent_action"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    grain: ClassVar[Grain] = "pair"
    tuned: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("horizon_s", pa.float32()),  # asked for
            pa.field("t0_ns", pa.int64()),  # of the first picture, on the episode's clock
            pa.field("t1_ns", pa.int64()),  # of the second
            pa.field("z", pa.list_(pa.float16())),  # the latent's tokens one after another, before any choice of a code
            pa.field("logvar", pa.list_(pa.float16())),  # of models that learn with noise
            pa.field("code", pa.list_(pa.int16())),  # per token, or per level of residual codes fitted to z
            pa.field("code_dist", pa.list_(pa.float32())),  # from z to what the code stands for
            pa.field("recon_chg", pa.float32()),  # error of the decoded picture where pictures differ
            pa.field("copy_chg", pa.float32()),  # error of the earlier picture there; null with `recon_chg` where nothing differs
            pa.field("gain", pa.float32()),  # 1 - recon_chg / copy_chg
            pa.field("cam_motion_px", pa.float32()),  # how far the background moved, in pixels as recorded
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; the checkpoint is looked at, so that a wrong one is told early.

        Raises:
            UsageError: the checkpoint cannot be read, or pictures are too rare for its shortest horizon.
        """
        made = cls(parse_settings(LatentActionConfig, settings))
        if made.config.checkpoint:
            hash_checkpoint(made.config.checkpoint)
            shortest = made.lam.model.horizons_s[0]
            if made.config.hz * shortest <= 0.5:
                raise UsageError(
                    f"hz={made.config.hz:g} is too slow for a horizon of {shortest:g} s; use {1 / shortest:g} or more"
                )
        return made

    @property
    def lam(self) -> Lam:
        """What the checkpoint says of its model."""
        return read_lam(self.config.checkpoint)

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, the checkpoint's content and torch."""
        plain = {k: v for k, v in self.settings().items() if k != "checkpoint"} | ({} if self.trained else {"trained": False})
        weights = hash_checkpoint(self.config.checkpoint) if self.config.checkpoint else ()
        return fingerprint(self.name, self.version, plain, weights, ("torch",))

    def cameras(self, contract: Contract) -> tuple[str, ...]:
        """Return the cameras looked at."""
        return tuple(c.name for c in colour_cameras(contract, self.config.cameras))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the cameras it looks at."""
        return tuple(f"rgb:{c}" for c in self.cameras(contract)) if self.config.checkpoint else ()

    def needs(self, contract: Contract) -> Needs:
        """Ask for small pictures; a row looks no further than the longest horizon and the picture after it."""
        if not self.config.checkpoint:
            return Needs()
        model = self.lam.model
        looks = tuple(Look(c, (model.side, model.side), self.config.hz) for c in self.cameras(contract))
        return Needs(looks, context_s=model.horizons_s[-1] + 2 / self.config.hz)

    def run(self, batch: Batch) -> pa.Table:
        """Say what happens in every pair."""
        cameras = [c for c in self.cameras(batch.contract) if c in batch.clips]
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        if not cameras or not self.config.checkpoint:
            return nothing(self, batch, NO_CAMERA if self.config.checkpoint else NO_CHECKPOINT)
        tables = [self._camera(batch, camera) for camera in cameras]
        rows = pa.concat_tables(tables).unify_dictionaries()
        episode = np.concatenate([episodes_of(t, batch) for t in tables])
        order = np.lexsort(
            (rows.column("start_step").to_numpy(), episode)
        )  # stable: by camera and horizon among the rows of a step
        return rows.take(pa.array(order)).combine_chunks()

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure what the latent tells about actions, and what the decoder makes of it, on the half that was not trained on."""
        from annotators.latent.evaluation import evaluate

        if not self.config.checkpoint or not self.cameras(heldout.contract):
            why = NO_CAMERA if self.config.checkpoint else NO_CHECKPOINT
            return (not_measurable("action_r2_linear", why),)
        return evaluate(self, replace(self, trained=False), heldout.part("test"))

    def _camera(self, batch: Batch, camera: str) -> pa.Table:
        model = self.lam.model
        clips = batch.clips[camera]
        pairs = pairs_in(batch, clips, model.horizons_s, self.config.boundary)
        pictures = np.concatenate([squares(c.pictures, model.side) for c in clips])
        seen = pairs.valid & (pairs.first >= 0)
        found = self._ask(pictures, pairs, seen, batch)
        gain = np.full(len(seen), np.nan)
        gain[seen] = found.gain
        useless = self.config.judge and self.config.least_gain is not None and seen & (gain <= self.config.least_gain)
        reasons = [
            NO_PICTURE if f < 0 else HORIZON_PAST_END if not v else NO_GAIN if u else None
            for f, v, u in zip(
                pairs.first.tolist(), pairs.valid.tolist(), np.broadcast_to(useless, seen.shape).tolist(), strict=True
            )
        ]
        own = self._columns(pairs, found, seen, gain, pictures)
        name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(seen), np.int32)), pa.array([camera], pa.string()))
        sure = pa.array(np.clip(np.nan_to_num(gain), 0, 1).astype(np.float32), mask=~np.isfinite(gain))
        return span_table(self, batch, pairs.start, pairs.stop, reasons, own, camera=name, confidence=sure)

    def _ask(self, pictures: npt.NDArray[np.uint8], pairs: Pairs, seen: BOOL, batch: Batch) -> "Latents":
        from annotators.latent.checkpoint import load
        from annotators.latent.inference import ask
        from annotators.latent.model import build

        model = load(self.config.checkpoint, batch.device) if self.trained else build(self.lam, batch.device).eval()
        above = self.lam.training.motion_above
        asked = pairs.first[seen], pairs.second[seen], pairs.horizon[seen]
        return ask(model, pictures, *asked, batch.at_once, batch.device, above, judge=self.config.judge)

    def _columns(
        self, pairs: Pairs, found: "Latents", seen: BOOL, gain: npt.NDArray[np.float64], pictures: npt.NDArray[np.uint8]
    ) -> dict[str, pa.Array]:
        horizons = np.array(self.lam.model.horizons_s, np.float32)
        code, distance = self._codes(found)
        judged = np.isfinite(gain)
        return {
            "horizon_s": pa.array(horizons[pairs.horizon]),
            "t0_ns": pa.array(pairs.t0_ns, mask=~seen),
            "t1_ns": pa.array(pairs.t1_ns, mask=~seen),
            "z": _lists(found.value, seen, pa.float16()),
            "logvar": _lists(found.logvar, seen, pa.float16()),
            "code": _lists(code, seen, pa.int16()),
            "code_dist": _lists(distance, seen, pa.float32()),
            "recon_chg": _numbers(found.recon, seen, judged),
            "copy_chg": _numbers(found.copy, seen, judged),
            "gain": _numbers(found.gain, seen, judged),
            "cam_motion_px": _numbers(self._camera_motion(pairs, seen, pictures), seen, seen & self.config.camera_motion),
        }

    def _codes(self, found: "Latents") -> tuple[Any, Any]:
        """Return the model's own codes, or those fitted to its latents after training."""
        if found.code is not None:
            return found.code, found.distance
        books = load_books(self.config.checkpoint) if self.trained else None
        if books is None:
            return None, None
        from annotators.latent.books import encode

        return encode(found.value.reshape(len(found.value), -1), books)

    def _camera_motion(self, pairs: Pairs, seen: BOOL, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        from transforms.optical_flow import camera_shift, dense_flow, grey

        if not self.config.camera_motion:
            return np.zeros(int(seen.sum()), np.float32)
        dull = grey(pictures)
        shifts = [camera_shift(dense_flow(dull[a], dull[b])) for a, b in zip(pairs.first[seen], pairs.second[seen], strict=True)]
        return (np.hypot(*np.array(shifts).reshape(-1, 2).T) * pairs.scale[seen]).astype(np.float32)


def _lists(values: Any, seen: BOOL, kind: pa.DataType) -> pa.Array:
    """Return a list column with a row of `values` where something was seen, null elsewhere."""
    if values is None:
        return pa.nulls(len(seen), pa.list_(kind))
    flat = np.ascontiguousarray(values.reshape(len(values), -1))
    offsets = np.concatenate([[0], np.cumsum(np.where(seen, flat.shape[1], 0))]).astype(np.int32)
    numbers = flat.reshape(-1).astype(kind.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers, kind), mask=pa.array(~seen))


def _numbers(values: npt.NDArray[np.float32], seen: BOOL, known: BOOL) -> pa.Array:
    whole = np.zeros(len(seen), np.float32)
    whole[seen] = np.nan_to_num(values)
    return pa.array(whole, mask=~known)
