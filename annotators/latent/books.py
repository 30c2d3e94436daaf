"""Codes for those who need tokens: k-means over continuous latents, level after level on what the last one left over (residual codes)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import UsageError

F32 = npt.NDArray[np.float32]
MOST = 50_000  # latents codes are fitted to


def fit_books(latents: F32, codes: int, levels: int, seed: int = 0) -> F32:
    """Return code books float32[levels, codes, D] of latents float32[n, D].

    Raises:
        UsageError: there are fewer latents than codes.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(latents) < codes:
        raise UsageError(f"{len(latents)} latents are too few for {codes} codes; choose more episodes or --set derive=")
    left, books = latents[:: max(len(latents) // MOST, 1)].astype(np.float32), list[F32]()
    for level in range(levels):
        means: Any = MiniBatchKMeans(codes, random_state=seed + level, n_init="auto", batch_size=4096).fit(left)
        book = means.cluster_centers_.astype(np.float32)
        left = left - book[means.labels_]
        books.append(book)
    return np.stack(books)


def encode(latents: F32, books: F32) -> tuple[npt.NDArray[np.int16], F32]:
    """Return codes int16[n, levels] and how far each level still is from the latent, float32[n, levels]."""
    left = latents.astype(np.float32)
    codes, distances = np.empty((len(left), len(books)), np.int16), np.empty((len(left), len(books)), np.float32)
    for level, book in enumerate(books):
        gaps = (left**2).sum(1)[:, None] - 2 * left @ book.T + (book**2).sum(1)
        chosen = gaps.argmin(1)
        left = left - book[chosen]
        codes[:, level], distances[:, level] = chosen, np.linalg.norm(left, axis=1)
    return codes, distances


def decode(codes: npt.NDArray[np.int16], books: F32) -> F32:
    """Return the latents float32[n, D] that codes int16[n, levels] stand for."""
    return np.stack([book[codes[:, level]] for level, book in enumerate(books)]).sum(0)
