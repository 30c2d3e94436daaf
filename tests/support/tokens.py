"""Tokenizers fitted to known arm motion, for tests of action tokens."""

from functools import lru_cache

import numpy as np

from annotators.base import Batch
from annotators.tokens.action_tokens import ActionTokens, ActionTokensConfig
from annotators.tokens.book import Material, TokenBook, TokenizerSpec, fit_book
from annotators.tokens.chunks import action_space, column_of, cut
from tests.support.motion import make_trajectory, sample
from transforms.quantiles import Sketch


@lru_cache
def arm(hz: int, seeds: tuple[int, ...] = (0, 1, 2, 3), seconds: float = 4.0) -> Batch:
    """The same arm motions at any rate; actions are changes of pose per step."""
    return sample([make_trajectory(s, seconds) for s in seeds], hz)


def material(batch: Batch, spec: TokenizerSpec) -> Material:
    space = action_space(batch.contract, spec.horizon_s, spec.column)
    assert not isinstance(space, str)
    sketch = Sketch.of(column_of(batch.steps, space.column))
    return Material(space, sketch, cut(batch, space).actions, (batch.contract.dataset,), len(batch.episodes))


@lru_cache
def book_of(scheme: str = "fast", rates: tuple[int, ...] = (10, 20, 50), **options: float) -> TokenBook:
    spec = TokenizerSpec(scheme=scheme, **options)  # type: ignore[arg-type]
    return fit_book(spec, [material(arm(hz, tuple(range(10, 18))), spec) for hz in rates])


def tokens_of(book: TokenBook, **config: float) -> ActionTokens:
    return ActionTokens(ActionTokensConfig(**config), book)  # type: ignore[arg-type]


def with_actions(batch: Batch, actions: np.ndarray) -> Batch:
    """The same steps with other actions, float[T, 7]."""
    import pyarrow as pa

    place = batch.steps.column_names.index("action")
    flat = pa.array(np.ascontiguousarray(actions, np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, actions.shape[1])
    return Batch(batch.contract, batch.steps.set_column(place, batch.steps.schema.field(place), column))
