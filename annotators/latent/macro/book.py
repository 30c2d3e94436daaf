"""The codes a checkpoint offers: its own, where the model chooses among some, or those fitted to its latents."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from annotators.latent.checkpoint import hash_checkpoint, load, load_books, read_lam
from transforms.macro_latents import distances

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Book:
    """Codes of a latent's tokens.

    Attributes:
        codes: float32[K, d].
        count: tokens per latent; 1 where codes were fitted to whole latents.
        unit: median squared distance from a code to its nearest neighbour: what penalties are measured in.
    """

    codes: F32
    count: int
    unit: float

    def tokens(self, z: F32) -> list[F32]:
        """Return the tokens of latents float32[n, count * d], float32[n, d] each."""
        return list(z.reshape(len(z), self.count, -1).transpose(1, 0, 2))

    def nearest(self, z: F32) -> npt.NDArray[np.int64]:
        """Return the nearest code of every token, latents one after another: int64[n * count]."""
        return distances(z.reshape(len(z) * self.count, -1), self.codes).argmin(1)


def code_book(checkpoint: str) -> Book | None:
    """Return the codes of a checkpoint; None where it was trained without any."""
    return _read(checkpoint, hash_checkpoint(checkpoint))


@lru_cache(maxsize=4)
def _read(checkpoint: str, _content: tuple[str, ...]) -> Book | None:
    model = read_lam(checkpoint).model
    if model.discrete:
        codes = load(checkpoint).state_dict()["bottleneck.book"].float().cpu().numpy()
        return Book(codes, model.tokens, _unit(codes))
    books = load_books(checkpoint)
    return None if books is None else Book(books[0], 1, _unit(books[0]))


def _unit(codes: F32) -> float:
    apart = distances(codes, codes)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(1))) or 1.0
