"""Puts a trained model before the gates of `annotators.latent.gates`: its latents, the same model untrained, and what its decoder imagines."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annotators.base import Batch
from annotators.evaluation import QualityReport
from annotators.latent.config import PIXELS
from annotators.latent.gates.batches import evaluate_latents
from annotators.latent.gates.dreams import Scenes, judge_dreams
from annotators.latent.pairs import pairs_in
from annotators.latent.pool import squares
from transforms.spread import spread

if TYPE_CHECKING:
    from annotators.latent.latent_action import LatentAction
    from annotators.latent.model import LatentActionModel

F32 = npt.NDArray[np.float32]
MOST = 512  # pairs whose pictures are imagined


class Imagination:
    """One horizon of a model as the gates of imagination ask it: pictures float32[n, S, S, 3] in 0..1, latents float32[n, d]."""

    def __init__(self, model: "LatentActionModel", horizon: int, device: str = "cpu", at_once: int = 64) -> None:
        self.model, self.horizon, self.device, self.at_once = model.to(device), horizon, device, at_once

    def infer(self, first: F32, second: F32) -> F32:
        """Return the latents of pairs, codes chosen."""

        def said(a: Any, b: Any, which: Any) -> Any:
            first, second = (self.model.encode(x.movedim(3, 1)) for x in (a, b))
            return self.model.infer(first, second, which).value.flatten(1)

        return self._by_parts(first, second, said)

    def imagine(self, first: F32, latent: F32) -> F32:
        """Return the later pictures that latents lead to."""
        shape = (self.model.config.tokens, self.model.config.dim)

        def said(a: Any, z: Any, which: Any) -> Any:
            return self.model.predict(a.movedim(3, 1), z.unflatten(1, shape), which).later.movedim(1, 3)

        return self._by_parts(first, latent, said)

    def _by_parts(self, one: F32, other: F32, said: Callable[[Any, Any, Any], Any]) -> F32:
        import torch

        parts = list[F32]()
        with torch.inference_mode():
            for start in range(0, len(one), self.at_once):
                given = (torch.from_numpy(np.ascontiguousarray(x[start : start + self.at_once])) for x in (one, other))
                a, b = (x.to(self.device) for x in given)
                which = torch.full((len(a),), self.horizon, dtype=torch.int64, device=self.device)
                parts.append(said(a, b, which).float().cpu().numpy())
        return np.concatenate(parts)


def evaluate(
    annotator: "LatentAction", untrained: "LatentAction", batch: Batch, *, network: bool = True
) -> tuple[QualityReport, ...]:
    """Run every gate: what latents tell about actions per camera and horizon, and, of models of pixels, what the decoder imagines.

    Args:
        annotator: what is judged.
        untrained: the same before it was trained.
        batch: episodes with pictures that it was not trained on.
        network: whether to run the nonlinear probes too; they take seconds.
    """
    plain = replace(annotator, config=replace(annotator.config, least_gain=None))  # judged on every pair, not on those it likes
    twin = replace(untrained, config=replace(untrained.config, least_gain=None))
    found = evaluate_latents(plain, batch, twin, network=network)
    return (*found, *_dreams(annotator, batch))


def _dreams(annotator: "LatentAction", batch: Batch) -> tuple[QualityReport, ...]:
    from annotators.latent.checkpoint import load

    config = annotator.lam.model
    cameras = [c for c in annotator.cameras(batch.contract) if any(len(clip) for clip in batch.clips.get(c, ()))]
    if config.target != PIXELS or not cameras:
        return ()
    model, reports = load(annotator.config.checkpoint, batch.device), list[QualityReport]()
    for camera in cameras:
        for place, horizon in enumerate(config.horizons_s):
            scenes = _scenes(batch, camera, horizon, config.side)
            mind = Imagination(model, place, batch.device, batch.at_once)
            marks = {"camera": camera, "horizon_s": horizon}
            named = f".{camera}@{horizon:g}s" if len(cameras) > 1 else f".@{horizon:g}s" if len(config.horizons_s) > 1 else ""
            for report in judge_dreams(mind, scenes):
                reports.append(replace(report, metric=report.metric + named, detail={**marks, **report.detail}))
    return tuple(reports)


def _scenes(batch: Batch, camera: str, horizon: float, side: int) -> Scenes:
    """Return at most `MOST` pairs, spread evenly."""
    clips = batch.clips[camera]
    pairs = pairs_in(batch, clips, (horizon,), "invalid")
    rows = np.flatnonzero(pairs.valid & (pairs.first >= 0) & (pairs.second > pairs.first))
    rows = rows[spread(len(rows), MOST)]
    pictures = np.concatenate([squares(c.pictures, side) for c in clips])
    first, second = ((pictures[x[rows]] / np.float32(255)).astype(np.float32) for x in (pairs.first, pairs.second))
    episode = np.searchsorted(batch.starts, pairs.start[rows], side="right") - 1
    return Scenes(first, second, episode, len(batch.episodes))
