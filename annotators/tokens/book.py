"""A tokenizer as it is kept: one action codec per action space, as JSON whose hash is its name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from annotators.tokens.chunks import ActionSpace
from schemas.errors import UsageError
from schemas.ids import canonical_json, short_id
from transforms.codec import fast
from transforms.codec.action import ActionCodec
from transforms.codec.affine import Affine
from transforms.codec.base import F64, ChunkCodec
from transforms.codec.beast import BeastCodec
from transforms.codec.bins import BinCodec
from transforms.codec.bpe import Vocabulary
from transforms.codec.fast import FastCodec
from transforms.quantiles import Sketch

Scheme = Literal["bins", "fast", "beast"]
FORMAT, VERSION = "cotrain-tokenizer", 1


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """How to make a tokenizer.

    Attributes:
        scheme: `bins` (OpenVLA's 256), `fast` (DCT and byte-pair merges) or `beast` (spline control points).
        horizon_s: seconds of a chunk.
        column: tokenize this feature; empty: the action.
        scale: of `fast`, integers per normalised unit.
        vocabulary: of `fast`, most tokens, without ESCAPE and END.
        points_per_s: of `beast`, control points per second and dimension; at least four per chunk.
        tolerance: of `beast`, the largest error a chunk may have in normalised units.
        fit_on: `val` leaves the test half of the episodes to the evaluation; `all` takes every one.
    """

    scheme: Scheme = "fast"
    horizon_s: float = 1.0
    column: str = ""
    scale: float = 10.0
    vocabulary: int = 1024
    points_per_s: float = 10.0
    tolerance: float = 0.1
    fit_on: Literal["val", "all"] = "val"

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            UsageError: names the field.
        """
        for name in ("horizon_s", "scale", "vocabulary", "points_per_s", "tolerance"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} of a tokenizer must be above 0")
        if self.scheme not in ("bins", "fast", "beast"):
            raise UsageError(f"scheme={self.scheme!r} is unknown; use bins, fast or beast")


@dataclass(frozen=True, slots=True)
class Page:
    """One action space and its codec.

    Attributes:
        space: whose actions they are.
        codec: how they are coded.
        datasets: what it was fitted on.
        episodes: how many episodes those had.
        chunks: how many chunks a vocabulary was learnt from.
        whole: whether the test half of the episodes was among them.
    """

    space: ActionSpace
    codec: ActionCodec
    datasets: tuple[str, ...] = ()
    episodes: int = 0
    chunks: int = 0
    whole: bool = False


@dataclass(frozen=True)
class TokenBook:
    """A tokenizer. Its identity is its content."""

    spec: TokenizerSpec
    pages: tuple[Page, ...]

    @cached_property
    def tokenizer_id(self) -> str:
        """Names the tokenizer after everything it holds."""
        return short_id("tok", self.to_dict())

    def page(self, key: str) -> Page | None:
        """Return the page of an action space; None where it has none."""
        return next((p for p in self.pages if p.space.key == key), None)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What all pages of a FAST tokenizer share."""
        codec = self.pages[0].codec.chunks if self.pages else None
        return codec.vocabulary if isinstance(codec, FastCodec) else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        pages = [
            {
                "space": asdict(p.space),
                "codec": p.codec.to_dict(),
                "datasets": list(p.datasets),
                "episodes": p.episodes,
                "chunks": p.chunks,
                "whole": p.whole,
            }
            for p in self.pages
        ]
        return {"format": FORMAT, "version": VERSION, "spec": asdict(self.spec), "pages": pages}

    def to_json(self) -> bytes:
        """Return the file's content."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "this tokenizer") -> Self:
        """Read what `to_json` wrote.

        Raises:
            UsageError: it is something else, or of a later version.
        """
        try:
            body: dict[str, Any] = json.loads(text)
            if body.get("format") != FORMAT or body.get("version") != VERSION:
                raise UsageError(
                    f"{where} is no tokenizer of version {VERSION}: it says {body.get('format')!r} {body.get('version')!r}"
                )
            return cls(TokenizerSpec(**body["spec"]), tuple(_page(p) for p in body["pages"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{where} cannot be read as a tokenizer: {type(error).__name__}: {error}") from error


def bind(book: TokenBook, space: ActionSpace, affine: Affine) -> ActionCodec:
    """Return a codec for a space the tokenizer has never seen: ranges of its own, the tokenizer's scheme and vocabulary."""
    return ActionCodec(affine, make_codec(book.spec, space, affine, book.vocabulary))


def make_codec(spec: TokenizerSpec, space: ActionSpace, affine: Affine, vocabulary: Vocabulary | None) -> ChunkCodec:
    """Return the chunk codec of a space."""
    if spec.scheme == "bins":
        return BinCodec(space.horizon, space.dims)
    if spec.scheme == "beast":
        points = min(space.horizon, max(4, round(spec.points_per_s * space.horizon / space.hz)))
        if points < 4:
            raise UsageError(f"{space.horizon} steps of {space.key} are too few for a cubic spline; use a longer horizon or bins")
        switches = tuple(i for i, two in enumerate(affine.binary) if two)
        return BeastCodec(space.horizon, space.dims, points, switches, tolerance=spec.tolerance)
    if vocabulary is None:
        raise UsageError("a FAST codec needs a vocabulary")
    return FastCodec(space.horizon, space.dims, spec.scale, vocabulary)


@dataclass(frozen=True, slots=True)
class Material:
    """What a page is fitted on: the sketch of all actions of a space, and some of its chunks float64[n, H, A]; the rest as in `Page`."""

    space: ActionSpace
    sketch: Sketch
    chunks: F64
    datasets: tuple[str, ...]
    episodes: int
    whole: bool = False


def fit_book(spec: TokenizerSpec, materials: Sequence[Material]) -> TokenBook:
    """Fit ranges per space, and for FAST one vocabulary over all of them.

    Raises:
        UsageError: there is nothing to fit, or a vocabulary too small for its alphabet.
    """
    if not materials:
        raise UsageError("no actions to fit a tokenizer to; name datasets that have some, and a control rate")
    known = sorted(materials, key=lambda m: m.space.key)
    ranges = [Affine.fit(m.sketch) for m in known]
    vocabulary = None
    if spec.scheme == "fast":
        rows = [fast.coefficients(a.encode(m.chunks, clip=False), spec.scale) for m, a in zip(known, ranges, strict=True)]
        vocabulary = fast.learn(_within(rows, spec.vocabulary), spec.vocabulary)
    pages = tuple(
        Page(m.space, ActionCodec(a, make_codec(spec, m.space, a, vocabulary)), m.datasets, m.episodes, len(m.chunks), m.whole)
        for m, a in zip(known, ranges, strict=True)
    )
    return TokenBook(spec, pages)


def _within(rows: list[Any], size: int) -> list[Any]:
    """Leave out chunks whose outliers would need more symbols than half of the vocabulary; ESCAPE carries those."""
    reach = max(1, size // 4 - 1)
    return [kept for r in rows if len(kept := r[(np.abs(r) <= reach).all(1)])]


def _page(raw: Mapping[str, Any]) -> Page:
    space: dict[str, Any] = {**raw["space"], "names": tuple(raw["space"]["names"]), "units": tuple(raw["space"]["units"])}
    return Page(
        ActionSpace(**space),
        ActionCodec.from_dict(raw["codec"]),
        tuple(raw["datasets"]),
        raw["episodes"],
        raw["chunks"],
        raw["whole"],
    )
