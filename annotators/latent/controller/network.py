"""The controller's network; imported where one is built: torch."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Both ways between actions and latents; see `annotators.latent.controller.model`."""

    def __init__(self, samples: int, width: int, heads: int, layers: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        action, state, latent = sizes
        self.samples, self.action = samples, action
        for name, size in (("action", action), ("state", state), ("latent", latent)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        self.of_action, self.of_state = nn.Linear(action, width), nn.Linear(state, width)
        self.place = nn.Parameter(torch.randn(samples + 1, width) * 0.02)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.among = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.look = nn.MultiheadAttention(width, heads, batch_first=True)
        self.tell = nn.Linear(width, latent)
        self.back = nn.Sequential(
            nn.Linear(latent + state, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, samples * action),
        )  # fmt: skip

    def measure(self, actions: Tensor, state: Tensor, latents: Tensor) -> None:
        """Take the means and spreads that everything is standardised by; numbers that never vary keep their scale."""
        for name, values in (("action", actions.flatten(0, 1)), ("state", state), ("latent", latents)):
            spread = values.std(0, correction=0)
            self.get_buffer(f"{name}_mean").copy_(values.mean(0))
            self.get_buffer(f"{name}_scale").copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def latents(self, actions: Tensor, state: Tensor) -> Tensor:
        """Return latents [n, d] of actions [n, samples, a] from states [n, s]."""
        tokens = torch.cat([self.of_action(self._in(actions, "action")), self.of_state(self._in(state, "state"))[:, None]], 1)
        tokens = self.among(tokens + self.place)
        seen, _ = self.look(self.query.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        return self._out(self.tell(seen[:, 0]), "latent")

    def actions(self, latents: Tensor, state: Tensor) -> Tensor:
        """Return actions [n, samples, a] of latents [n, d] in states [n, s]."""
        told = self.back(torch.cat([self._in(latents, "latent"), self._in(state, "state")], 1))
        return self._out(told.unflatten(1, (self.samples, self.action)), "action")

    def gap(self, said: Tensor, true: Tensor, name: str) -> Tensor:
        """Return the mean squared distance in standardised units."""
        return ((said - true) / self.get_buffer(f"{name}_scale")).square().mean()

    def _in(self, values: Tensor, name: str) -> Tensor:
        return (values - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_scale")

    def _out(self, values: Tensor, name: str) -> Tensor:
        return values * self.get_buffer(f"{name}_scale") + self.get_buffer(f"{name}_mean")
