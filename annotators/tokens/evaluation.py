"""How good are action tokens? Exact inverses, kept bounds, errors in physical units, lengths, strangers, and order worth learning.

Every metric takes any tokenizer that codes and decodes, so that baselines and adversarial twins (one that clamps and answers zeros on
errors, as the public FAST processor does; tokens in random order) go the same way as the annotator.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from annotators.base import Batch
from annotators.evaluation import QualityReport, bootstrap, folds, known, not_measurable, ratio, verdict
from annotators.tokens.book import Page, bind
from annotators.tokens.chunks import ActionSpace, column_of, cut
from annotators.tokens.order import accuracies, entropy
from schemas.errors import UsageError
from transforms.codec.action import ActionCodec, Coded
from transforms.codec.affine import Affine
from transforms.codec.base import BOOL, F64, I64, Tokens
from transforms.codec.bins import BinCodec
from transforms.codec.fast import FastCodec, coefficients
from transforms.quantiles import Sketch

if TYPE_CHECKING:
    from annotators.tokens.action_tokens import ActionTokens

METRICS = ("integer_inverse", "bound_kept", "round_trip_rmse", "tokens_per_second", "oov_rate", "next_token_accuracy")
OOV_GOAL, KEPT_GOAL = 0.001, 0.95


class Tokenizer(Protocol):
    """What is measured: an `ActionCodec`, or a twin of one."""

    def encode(self, actions: F64) -> Coded:
        """Code actions float64[N, H, A]."""
        ...

    def decode(self, tokens: Tokens) -> tuple[F64, BOOL]:
        """Return actions, and which chunks could be read."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """Chunks of held-out episodes and what a tokenizer made of them.

    Attributes:
        space: whose actions they are.
        codec: the tokenizer's own codec, with its ranges.
        actions: float64[N, H, A].
        episode: int64[N], place of each chunk's episode.
        episodes: how many episodes there are.
        names: their ids.
        split: where the ranges come from.
    """

    space: ActionSpace
    codec: ActionCodec
    actions: F64
    episode: I64
    episodes: int
    names: tuple[str, ...]
    split: str

    def per_episode(self, values: Any) -> F64:
        """Sum values of chunks over each episode."""
        return np.asarray(np.bincount(self.episode, np.asarray(values, np.float64), self.episodes), np.float64)


def evaluate_tokens(annotator: "ActionTokens", batch: Batch, twin: Tokenizer | None = None) -> tuple[QualityReport, ...]:
    """Return every report of sheet 7.5, measured on the test half; `twin` takes the place of the annotator's own codec.

    Where the test half is empty (one episode, say), all episodes are measured, and the split says so.
    """
    test = batch.part("test")
    trial = prepare(annotator, test if test.episodes else batch)
    if not isinstance(trial, str) and not test.episodes:
        trial = replace(trial, split=f"{trial.split}; no test half, so these very episodes")
    if isinstance(trial, str):
        return tuple(not_measurable(name, trial) for name in METRICS)
    used: Tokenizer = twin or trial.codec
    coded = used.encode(trial.actions)
    return (
        integer_inverse(trial, used, coded),
        bound_kept(trial, coded),
        round_trip_rmse(trial, coded),
        tokens_per_second(trial, coded),
        oov_rate(trial),
        next_token_accuracy(trial, coded),
    )


def prepare(annotator: "ActionTokens", batch: Batch) -> Trial | str:
    """Cut the held-out chunks; a space that the tokenizer has never seen gets ranges of its own."""
    space = annotator.space(batch.contract)
    if isinstance(space, str):
        return space
    if annotator.book is None:
        return "there is no tokenizer"
    if not batch.episodes:
        return "no episode"
    page: Page | None = annotator.book.page(space.key)
    chunks = cut(batch, space, annotator.config.stride_s)
    if not len(chunks.actions):
        return "no episode is as long as a chunk"
    codec, split = (page.codec, _fitted_on(page)) if page else _stranger(annotator, batch, space)
    if codec is None:
        return split
    first = chunks.first[chunks.reason == 0]
    episode = np.searchsorted(batch.starts, first, side="right") - 1
    return Trial(space, codec, chunks.actions, episode, len(batch.episodes), batch.episodes, split)


def integer_inverse(trial: Trial, used: Tokenizer, coded: Coded) -> QualityReport:
    """Share of chunks whose tokens alone give the decoded chunk back, bit for bit, and whose cut-off tokens give none.

    Baseline: what a decoder that answers zeros on errors would score on the cut-off streams.
    """
    again, ok = used.decode(coded.tokens)
    cut_off = Tokens.of([coded.tokens[i][:-1] for i in range(len(coded.tokens))])
    lost, read = used.decode(cut_off)
    honest = ~read & ~np.isfinite(lost).all((1, 2))
    good = ok & (again == coded.decoded).all((1, 2)) & honest
    value, ci = ratio(trial.per_episode(good), trial.per_episode(np.ones(len(good))))
    silent = float((read & np.isfinite(lost).all((1, 2))).mean())
    return QualityReport(
        "integer_inverse", value, ci, trial.episodes, len(good), trial.split, {"zeros_on_error": 0.0}, verdict(value == 1.0),
        "the codec's own output", "1", {"cut_off_streams_read_silently": silent},
    )  # fmt: skip


def bound_kept(trial: Trial, coded: Coded) -> QualityReport:
    """Share of chunks whose decoded numbers keep the codec's declared bound, in the range it codes. Baseline: half the resolution."""
    chunks = trial.codec.chunks
    wanted = trial.codec.affine.encode(trial.actions, clip=chunks.clips)
    kept = chunks.bound.holds(wanted, _normalised(trial, coded.decoded))
    value, ci = ratio(trial.per_episode(kept), trial.per_episode(np.ones(len(kept))))
    half = chunks.bound.holds(wanted, _coarse(trial, wanted))
    goal = 1.0 if chunks.bound.proven else KEPT_GOAL
    told = {
        "bound": chunks.bound.value,
        "norm": chunks.bound.norm,
        "proven": chunks.bound.proven,
        "saturated": float(coded.saturated.mean()),
    }
    return QualityReport(
        "bound_kept", value, ci, trial.episodes, len(kept), trial.split, {"half_resolution": float(half.mean())},
        verdict(value >= goal), "recorded actions", f"{goal:g}", told,
    )  # fmt: skip


def round_trip_rmse(trial: Trial, coded: Coded) -> QualityReport:
    """Error of decoded actions in normalised units, clipping included. Baselines: 256 bins, and the mean action for every chunk."""
    moving = ~trial.codec.affine.constant
    gap = _gap(trial, coded.decoded, moving)
    value, ci = _rmse(trial, gap)
    bins = ActionCodec(trial.codec.affine, BinCodec(trial.space.horizon, trial.space.dims)).encode(trial.actions)
    mean = np.broadcast_to(trial.actions.mean((0, 1)), trial.actions.shape)
    others = {
        "bins256": _rmse(trial, _gap(trial, bins.decoded, moving))[0],
        "mean_action": _rmse(trial, _gap(trial, mean, moving))[0],
    }
    error = coded.decoded - trial.actions
    each = {
        name: {"rmse": known(float(np.sqrt((error[..., d] ** 2).mean()))), "max": known(float(np.abs(error[..., d]).max())), "unit": unit or "as recorded"}
        for d, (name, unit) in enumerate(zip(trial.space.names, trial.space.units, strict=True))
    }  # fmt: skip
    constant = [n for n, c in zip(trial.space.names, trial.codec.affine.constant.tolist(), strict=True) if c]
    if not np.isfinite(value):
        return not_measurable("round_trip_rmse", "a chunk did not decode")
    return QualityReport(
        "round_trip_rmse", value, ci, trial.episodes, len(gap), trial.split, others, verdict(value < others["mean_action"]),
        "recorded actions", "below the mean action", {"per_dimension": each, "constant_dimensions": constant},
    )  # fmt: skip


def tokens_per_second(trial: Trial, coded: Coded) -> QualityReport:
    """Tokens per second of motion, their unigram entropy, and bits per second. Baseline: one token per number, in 256 bins."""
    seconds = trial.space.horizon / trial.space.hz
    counts = coded.tokens.counts.astype(np.float64)
    value, ci = ratio(trial.per_episode(counts), trial.per_episode(np.full(len(counts), seconds)))
    bins = ActionCodec(trial.codec.affine, BinCodec(trial.space.horizon, trial.space.dims)).encode(trial.actions)
    plain, bits = trial.space.horizon * trial.space.dims / seconds, entropy(coded.tokens.ids)
    detail = {
        "unigram_bits": bits, "bits_per_second": bits * value, "uniform_bits": float(np.log2(trial.codec.chunks.size)),
        "bins256_bits_per_second": entropy(bins.tokens.ids) * plain, "tokens_per_chunk": float(counts.mean()),
    }  # fmt: skip
    fewer = value < plain or trial.codec.chunks.scheme == "bins"
    return QualityReport(
        "tokens_per_second", value, ci, trial.episodes, len(counts), trial.split, {"bins256": plain}, verdict(fewer),
        "no truth needed", "fewer than bins", detail,
    )  # fmt: skip


def oov_rate(trial: Trial) -> QualityReport:
    """Share of coefficients outside the tokenizer's alphabet, which ESCAPE carries. Baseline: chunks the public processor would clamp."""
    codec = trial.codec.chunks
    if not isinstance(codec, FastCodec):
        return not_measurable("oov_rate", f"{codec.scheme} has an id for every number")
    found = coefficients(trial.codec.affine.encode(trial.actions, clip=False), codec.scale)
    strange = (found < codec.vocabulary.low) | (found > codec.vocabulary.high)
    value, ci = ratio(trial.per_episode(strange.sum(1)), trial.per_episode(np.full(len(found), found.shape[1])))
    clamped = float((found < codec.vocabulary.low).any(1).mean())
    return QualityReport(
        "oov_rate", value, ci, trial.episodes, len(found), trial.split, {"chunks_clamped_by_public_fast": clamped},
        verdict(value < OOV_GOAL), "no truth needed", f"below {OOV_GOAL}", {"chunks_with_escape": float(strange.any(1).mean())},
    )  # fmt: skip


def next_token_accuracy(trial: Trial, coded: Coded) -> QualityReport:
    """How often a 5-gram model, fitted on other episodes, guesses the next token: is there order worth learning?

    Baselines: the same with every chunk's tokens in random order, and the most frequent token.
    """
    if trial.episodes < 2:
        return not_measurable("next_token_accuracy", "one episode cannot be held out", "above shuffled order, interval apart")
    part = folds(trial.names)[trial.episode]
    hits, total = accuracies(coded.tokens, part)
    mixed, _ = accuracies(shuffled(coded.tokens), part)
    common, _ = accuracies(coded.tokens, part, order=1)
    value, ci = ratio(trial.per_episode(hits), trial.per_episode(total))
    gain = trial.per_episode(hits - mixed)

    def statistic(draws: F64) -> F64:
        return (draws @ gain) / np.maximum(draws @ trial.per_episode(total), 1e-12)

    ahead = bootstrap(statistic, trial.episodes)
    others = {"shuffled_order": float(mixed.sum() / total.sum()), "most_frequent": float(common.sum() / total.sum())}
    return QualityReport(
        "next_token_accuracy", value, ci, trial.episodes, int(total.sum()), f"{len(np.unique(part))} folds by hash of episode", others,
        verdict(ahead is not None and ahead[0] > 0), "no truth needed", "above shuffled order, interval apart",
        {"gain_over_shuffled_ci95": ahead},
    )  # fmt: skip


def shuffled(tokens: Tokens, seed: int = 0) -> Tokens:
    """Return the adversarial twin of a token stream: the same tokens of every chunk in random order."""
    keys = np.random.Generator(np.random.Philox(seed)).random(len(tokens.ids))
    row = np.repeat(np.arange(len(tokens)), tokens.counts)
    return Tokens(tokens.ids[np.lexsort((keys, row))], tokens.offsets)


def _fitted_on(page: Page) -> str:
    where = ", ".join(page.datasets) or "other episodes"
    return f"ranges fitted on {where}, these episodes included" if page.whole else f"ranges fitted on other episodes of {where}"


def _stranger(annotator: "ActionTokens", batch: Batch, space: ActionSpace) -> tuple[ActionCodec | None, str]:
    assert annotator.book is not None
    affine = Affine.fit(Sketch.of(column_of(batch.steps, space.column)))
    try:
        return bind(annotator.book, space, affine), "a space the tokenizer has never seen; ranges fitted on these very episodes"
    except UsageError as error:
        return None, str(error)


def _normalised(trial: Trial, decoded: F64) -> F64:
    """Undo the affine stage of decoded actions; constant dimensions say nothing either way."""
    return trial.codec.affine.encode(decoded, clip=False)


def _gap(trial: Trial, decoded: F64, moving: BOOL) -> F64:
    """Return the squared error in normalised units, float64[N]: mean over steps and moving dimensions."""
    width = trial.codec.affine.half_width[moving]
    gap = (decoded[..., moving] - trial.actions[..., moving]) / width
    return (gap * gap).mean((1, 2)) if moving.any() else np.zeros(len(gap))


def _rmse(trial: Trial, gap: F64) -> tuple[float, tuple[float, float] | None]:
    above, below = trial.per_episode(gap), trial.per_episode(np.ones(len(gap)))
    interval = bootstrap(lambda draws: np.sqrt((draws @ above) / np.maximum(draws @ below, 1e-12)), trial.episodes)
    return float(np.sqrt(above.sum() / below.sum())), interval


def _coarse(trial: Trial, wanted: F64) -> F64:
    """Return what the same scheme at half its resolution would decode: errors of twice the size, as steps twice as wide give."""
    chunks = trial.codec.chunks
    if isinstance(chunks, FastCodec):
        half: Any = FastCodec(chunks.horizon, chunks.dims, chunks.scale / 2, chunks.vocabulary)
    elif isinstance(chunks, BinCodec):
        half = BinCodec(chunks.horizon, chunks.dims, chunks.edges // 2)
    else:
        half = replace(chunks, points=max(chunks.degree + 1, chunks.points // 2))  # pyright: ignore[reportArgumentType]
    decoded, _ = half.decode(half.encode(wanted))
    return np.asarray(decoded, np.float64)
