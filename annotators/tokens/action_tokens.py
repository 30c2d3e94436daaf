"""Action tokens: every chunk of actions as ids of a tokenizer, decoded again and measured before a row says it is valid.

A tokenizer is fitted beforehand (`cotrain train-tokenizer`) and named by its content; the annotator carries it along. Each row is one
chunk; what is left over at the end of an episode is said to be too short.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, Grain, fingerprint
from annotators.evaluation import QualityReport
from annotators.spans import constant, lists, nothing, span_table
from annotators.tokens.book import Page, TokenBook
from annotators.tokens.chunks import REASONS, ActionSpace, action_space, cut
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.settings import parse_settings
from transforms.codec.action import Coded
from transforms.codec.base import BOOL, F64

NO_TOKENIZER, UNKNOWN_SPACE = "no_tokenizer", "space_not_in_tokenizer"


@dataclass(frozen=True, slots=True)
class ActionTokensConfig:
    """Which tokenizer, and where chunks begin.

    Attributes:
        tokenizer: path or URL of a tokenizer's file; empty: rows say that there is none.
        stride_s: seconds from one chunk's start to the next one's; None: its duration, so that chunks follow each other.
        max_saturated: chunks with a larger share of numbers outside the quantile range are not valid.
    """

    tokenizer: str = ""
    stride_s: float | None = None
    max_saturated: float = 0.5

    def __post_init__(self) -> None:
        if self.stride_s is not None and not self.stride_s > 0:
            raise UsageError(f"stride_s={self.stride_s} never gets on; use a duration above 0")
        if not 0 <= self.max_saturated <= 1:
            raise UsageError(f"max_saturated={self.max_saturated} is no share; use 0 to 1")


@dataclass(frozen=True, slots=True)
class ActionTokens:
    """Annotates chunks with token ids; see the module's text."""

    config: ActionTokensConfig = field(default_factory=ActionTokensConfig)
    book: TokenBook | None = None

    name: ClassVar[str] = "action_tokens"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "steps"
    grain: ClassVar[Grain] = "window"
    tuned: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("tokenizer_id", NAME),
            pa.field("scheme", NAME),
            pa.field("stages", NAME),  # what was done, in order, comma-separated: decoding undoes it from the end
            pa.field("stats_fp", NAME),  # of the ranges actions were normalised with
            pa.field("ids", pa.list_(pa.uint16())),
            pa.field("n_tokens", pa.int32()),
            pa.field("rmse", pa.float32()),  # of the decoded chunk, normalised units, clipping included
            pa.field("max_err", pa.float32()),
            pa.field("saturated", pa.float32()),  # share of numbers outside the quantile range
            pa.field("ok", pa.bool_()),  # decodes, and keeps the declared bound
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs and read its tokenizer.

        Raises:
            UsageError: the tokenizer cannot be read.
        """
        config = parse_settings(ActionTokensConfig, settings)
        return cls(config, read_book(config.tokenizer) if config.tokenizer else None)

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration and the tokenizer's content, wherever it lies."""
        plain = {k: v for k, v in self.settings().items() if k != "tokenizer"}
        return fingerprint(self.name, self.version, plain, (self.book.tokenizer_id,) if self.book else ())

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the column of the actions; empty where there are none."""
        space = self.space(contract)
        return () if isinstance(space, str) else (space.column,)

    def space(self, contract: Contract) -> ActionSpace | str:
        """Return the dataset's action space, or the reason why it has none."""
        spec = self.book.spec if self.book else None
        return action_space(contract, spec.horizon_s if spec else 1.0, spec.column if spec else "")

    def run(self, batch: Batch) -> pa.Table:
        """Code every chunk; what cannot be coded is in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        space = self.space(batch.contract)
        if isinstance(space, str):
            return nothing(self, batch, space)
        if self.book is None:
            return nothing(self, batch, NO_TOKENIZER)
        page = self.book.page(space.key)
        return nothing(self, batch, UNKNOWN_SPACE) if page is None else self._rows(batch, page)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure inverses, bounds, errors, lengths and order; see `annotators.tokens.evaluation`."""
        from annotators.tokens.evaluation import evaluate_tokens

        return evaluate_tokens(self, heldout)

    def _rows(self, batch: Batch, page: Page) -> pa.Table:
        assert self.book is not None
        chunks = cut(batch, page.space, self.config.stride_s)
        coded, count = page.codec.encode(chunks.actions), len(chunks.first)
        usable = chunks.reason == 0
        reasons: list[str | None] = [REASONS[r] for r in chunks.reason]
        for row, why in zip(np.flatnonzero(usable).tolist(), self._judged(coded), strict=True):
            reasons[row] = why
        valid = np.array([r is None for r in reasons], np.bool_)
        lengths = np.zeros(count, np.int64)
        lengths[usable] = np.where(valid[usable], coded.tokens.counts, 0)
        ids = coded.tokens.ids[np.repeat(valid[usable], coded.tokens.counts)]
        own = {
            "tokenizer_id": constant(self.book.tokenizer_id, count),
            "scheme": constant(page.codec.chunks.scheme, count),
            "stages": constant(",".join(page.codec.stages), count),
            "stats_fp": constant(page.codec.affine.fingerprint(), count),
            "ids": lists(ids, lengths, valid, pa.uint16()),
            "n_tokens": pa.array(lengths.astype(np.int32), mask=~valid),
            "rmse": _spread(coded.rmse, usable),
            "max_err": _spread(coded.max_err, usable),
            "saturated": _spread(coded.saturated, usable),
            "ok": pa.array(valid, mask=~usable),
        }
        return span_table(self, batch, chunks.first, chunks.stop, reasons, own)

    def _judged(self, coded: Coded) -> list[str | None]:
        full = coded.saturated > self.config.max_saturated
        return [
            "saturated" if s else None if ok else "bound_exceeded" for ok, s in zip(coded.ok.tolist(), full.tolist(), strict=True)
        ]


def read_book(place: str) -> TokenBook:
    """Read a tokenizer from a path or URL.

    Raises:
        UsageError: it is missing or is no tokenizer.
    """
    import fsspec

    try:
        with fsspec.open(place, "rb") as file:
            text: bytes = file.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"there is no tokenizer {place}; make one with `cotrain train-tokenizer`") from error
    return TokenBook.from_json(text, place)


def _spread(values: F64, usable: BOOL) -> pa.Array:
    """Return a float32 column with `values` in the usable rows; null elsewhere, and where a value is no number."""
    column = np.full(len(usable), np.nan, np.float32)
    column[usable] = values
    return pa.array(column, mask=~np.isfinite(column))
