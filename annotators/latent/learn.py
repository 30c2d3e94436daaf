"""One step of learning after another: what each costs, where the optimiser is, and a state that goes on exactly where it stopped.

Everything random in a step is named by seed and step, so that a run that was stopped ends like one that was not. Imported where a model is
trained: torch.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from annotators.latent.augment import as_pictures, views
from annotators.latent.bottlenecks import Codes, Latent, is_time_to_revive, spread
from annotators.latent.config import EMA, PIXELS, Lam
from annotators.latent.losses import changed, flow_loss, texture_loss, warp_loss, weighted, weights
from annotators.latent.model import LatentActionModel, Told, build
from annotators.latent.pool import Pool, Sample
from schemas.errors import UsageError
from transforms.noise import normals, uniforms

VIEW, NOISE, DEAD = range(3)  # streams of random numbers
STREAMS = 4
FINAL_MOMENTUM = 0.999


class Learner:
    """A model and its optimiser.

    Attributes:
        step: how many steps were made.
        settled: whether no step is under way; an interrupted one leaves nothing to go on from.
    """

    def __init__(self, lam: Lam, device: str = "cpu", labels: int = 0) -> None:
        self.lam, self.device, self.step, self.settled = lam, device, 0, True
        self.model: LatentActionModel = build(lam, device)
        config, told = lam.model, lam.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(told.seed)
            self.reader = nn.Linear(config.tokens * config.dim, labels).to(device) if labels else None
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        parameters += list(self.reader.parameters()) if self.reader is not None else []
        self.optimiser: Any = torch.optim.AdamW(parameters, lr=told.rate, weight_decay=told.decay)

    @property
    def wants(self) -> dict[str, bool]:
        """What `Pool.sample` is to add: flow for the decoder's own, flow both ways for pictures carried along it."""
        told, model = self.lam.training, self.lam.model
        return {"flow": told.flow > 0 and model.carry, "both": told.warp > 0 and model.target == PIXELS}

    def learn(self, sample: Sample) -> dict[str, float]:
        """Make one step and return what it cost, term by term.

        Raises:
            UsageError: the loss is no longer a number.
        """
        told, on, self.settled = self.lam.training, torch.device(self.device), False
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, self.lam)
        with torch.autocast(on.type, torch.bfloat16, enabled=on.type == "cuda"):
            terms, latent = self._terms(sample)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise UsageError(f"the loss is not a number at step {self.step}: lower rate={told.rate:g}, or look at the pictures")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], told.clip)
        self.optimiser.step()
        self._after(latent)
        self.step += 1
        self.settled = True
        costs = {name: float(value.detach()) for name, value in terms.items()}
        return {"loss": float(loss.detach()), **costs, "gradient": float(norm), "rate": rate_at(self.step - 1, self.lam)}

    def state(self) -> dict[str, Tensor]:
        """Return everything that is needed to go on, as tensors by name."""
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.reader is not None:
            found |= {f"reader.{k}": v for k, v in self.reader.state_dict().items()}
        for place, one in self.optimiser.state_dict()["state"].items():
            found |= {f"adam.{place}.{k}": v for k, v in one.items()}
        return {k: v.detach().cpu().contiguous() for k, v in found.items()} | {"step": torch.tensor(self.step)}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        own = _under(state, "model.")
        self.model.load_state_dict(own)
        if self.reader is not None:
            self.reader.load_state_dict(_under(state, "reader."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(state, "adam.").items():
            place, _, key = name.partition(".")
            moments.setdefault(int(place), {})[key] = value.clone()
        known = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
        self.step = int(state["step"])

    def _terms(self, sample: Sample) -> tuple[dict[str, Tensor], Latent]:
        config, told = self.lam.model, self.lam.training
        first, second, horizon = (self._there(a) for a in (sample.first, sample.second, sample.horizon))
        draws = self._there(uniforms([told.seed], self._stream(VIEW), 4 * len(sample)).reshape(-1, 4).astype(np.float32))
        seen = views(first, second, self._there(sample.on_hand), draws, told.shift, told.jitter)
        encoded = self.model.encode(torch.cat(seen))
        noise = normals([told.seed], self._stream(NOISE), (len(sample), config.tokens, config.dim))[0]
        a, b = encoded.chunk(2)
        latent = self.model.infer(a, b, horizon, self._there(noise.astype(np.float32)))
        pictures = as_pictures(first), as_pictures(second)
        base, true = (self.model.target(p) for p in pictures)
        answer = self.model.predict(base, latent.value, horizon)
        with torch.autocast(first.device.type, enabled=False):
            return self._costs(sample, pictures, true, answer, latent, encoded), latent

    def _costs(
        self,
        sample: Sample,
        pictures: tuple[Tensor, Tensor],
        true: Tensor,
        answer: Told,
        latent: Latent,
        encoded: Tensor,
    ) -> dict[str, Tensor]:
        config, told = self.lam.model, self.lam.training
        agent = None if sample.agent is None else self._there(sample.agent)
        motion = changed(*pictures, told.motion_above).float()
        motion = functional.adaptive_max_pool2d(motion, (true.shape[2], true.shape[3])) > 0
        weight = weights(motion, agent, told.motion, told.agent)
        terms = {"reconstruction": weighted((answer.later - true).abs(), weight)}
        if (held := self._bottleneck_weight()) > 0:
            terms["bottleneck"] = held * latent.loss
        if config.target == EMA:
            terms["spread"] = told.sparse * spread(
                encoded.float().flatten(2).mean(2) if encoded.ndim == 4 else encoded.float().mean(1)
            )
        if sample.backward is not None and answer.flow is not None and told.flow:
            terms["flow"] = told.flow * flow_loss(answer.flow, self._there(sample.backward), weight)
        if sample.backward is not None and sample.forward is not None and config.target == PIXELS:
            both = self._there(sample.forward), self._there(sample.backward)
            terms["warp"] = told.warp * warp_loss(answer.later, pictures[0], *both)
        if told.texture and config.target == PIXELS:
            terms["texture"] = told.texture * texture_loss(answer.later, true)
        if self.reader is not None and sample.label is not None:
            terms["labels"] = told.labels * _read(self.reader(latent.mean.flatten(1)), self._there(sample.label))
        return terms

    def _bottleneck_weight(self) -> float:
        told, kind = self.lam.training, self.lam.model.bottleneck
        if kind != "noise":
            return told.sparse if kind == "sparse" else 1.0
        begun = self.step / told.steps - told.beta_from
        return told.beta * min(max(begun / told.beta_from, 0.0), 1.0) if told.beta_from else told.beta

    def _after(self, latent: Latent) -> None:
        told, book = self.lam.training, self.model.bottleneck
        rest = 0.5 * (1 + math.cos(math.pi * self.step / told.steps))
        self.model.follow(FINAL_MOMENTUM - (FINAL_MOMENTUM - told.momentum) * rest)
        if isinstance(book, Codes) and is_time_to_revive(self.step) and self.step < 0.8 * told.steps:
            codes, dim = book.book.shape
            beside = normals([told.seed], self._stream(DEAD), (codes, dim))[0].astype(np.float32)
            which = uniforms([told.seed], self._stream(DEAD), codes).reshape(-1, 1).astype(np.float32)
            book.revive(latent.mean.detach(), self._there(np.concatenate([which, beside], 1)))

    def _stream(self, which: int) -> int:
        return self.step * STREAMS + which

    def _there(self, array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)


def rate_at(step: int, lam: Lam) -> float:
    """Return the learning rate of a step: up along a line over the warm-up, then down along a cosine to nothing."""
    told = lam.training
    warm = max(round(told.warmup * told.steps), 1)
    if step < warm:
        return told.rate * (step + 1) / warm
    return told.rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(told.steps - warm, 1)))


def fit(pool: Pool, lam: Lam, device: str = "cpu") -> LatentActionModel:
    """Train on pairs in memory, all steps at once, and return the model.

    Raises:
        UsageError: there are fewer pairs than one batch.
    """
    learner = Learner(lam, device, 0 if pool.label is None else pool.label.shape[1])
    for rows in batches(pool, lam, 0):
        learner.learn(pool.sample(rows, **learner.wants))
    return learner.model.eval()


def batches(pool: Pool, lam: Lam, start: int) -> Iterator[Any]:
    """Yield the rows of every batch from step `start` to the last.

    Raises:
        UsageError: there are fewer pairs than one batch.
    """
    told = lam.training
    each = len(pool) // told.batch
    if not each:
        raise UsageError(f"{len(pool)} pairs are fewer than one batch of {told.batch}; choose more episodes or --set batch=")
    for epoch in range(start // each, told.steps // each + 1):
        skip = start - epoch * each if epoch == start // each else 0
        for place, rows in enumerate(pool.order(told.batch, told.seed, epoch)):
            if place >= skip and epoch * each + place < told.steps:
                yield rows


def _read(said: Tensor, label: Tensor) -> Tensor:
    known = torch.isfinite(label)
    return (((said.float() - torch.nan_to_num(label)) ** 2) * known).sum() / known.sum().clamp(min=1)


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
