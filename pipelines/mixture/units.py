"""How much of a mixture's unit one draw of a source is: a sample, the frames it shows, or the tokens of its texts."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from catalog.lake import Lake
from pipelines.loader.fields import fields_of
from pipelines.mixture.choose import Chosen
from pipelines.shards.reader import open_shard
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.mixture import MixtureSpec, WindowSpec

WORDS = re.compile(r"\w+|[^\w\s]")
type Counter = Callable[[Sequence[str]], list[int]]


def units_per_draw(lake: Lake, spec: MixtureSpec, chosen: Sequence[Chosen], contracts: Mapping[str, Contract]) -> list[float]:
    """Return the mean number of units of a draw of each source; 1 where the unit is the sample.

    Raises:
        UsageError: a source has no picture or no text, so that shares of it cannot be in that unit, or the tokenizer cannot be read.
    """
    if spec.unit == "samples":
        return [1.0] * len(chosen)
    if spec.unit == "frames":
        frames = {name: pictures(contract, spec.windows) for name, contract in contracts.items()}
        found = [_mean(c, c.train["dataset"].replace_strict(frames, return_dtype=pl.Float64)) for c in chosen]
    else:
        count = token_counter(spec.tokenizer)
        found = [_mean(c, _tokens(lake, c.train, contracts, count)) for c in chosen]
    for c, units in zip(chosen, found, strict=True):
        if units <= 0:
            raise UsageError(
                f"source {c.spec.name} shows no {spec.unit}, so its share of the mixture's {spec.unit} is 0 at any number of draws; "
                "choose another unit, or leave the source out"
            )
    return found


def pictures(contract: Contract, windows: WindowSpec) -> float:
    """Return how many pictures a sample of a dataset shows."""
    return float(sum(len(f.offsets_ns or (0,)) for f in fields_of(contract, windows) if f.kind == "picture"))


def token_counter(tokenizer: str) -> Counter:
    """Return what counts the tokens of texts: those of a `tokenizer.json`, or words and punctuation marks.

    Raises:
        UsageError: the file cannot be read.
    """
    if not tokenizer:
        return lambda texts: [len(WORDS.findall(text)) for text in texts]
    from tokenizers import Tokenizer

    if not Path(tokenizer).is_file():
        raise UsageError(f"tokenizer {tokenizer} is not a file; give the path of a tokenizer.json")
    try:
        loaded = Tokenizer.from_file(tokenizer)
    except Exception as error:  # the library raises the bare class
        raise UsageError(f"tokenizer {tokenizer} cannot be read: {error}") from error
    return lambda texts: [len(found.ids) for found in loaded.encode_batch(list(texts))]


def _mean(chosen: Chosen, per_step: pl.Series) -> float:
    """Return the mean over an epoch's items of what each row's steps are worth."""
    weight = chosen.train["weight"] if "weight" in chosen.train.columns else pl.repeat(1, len(per_step), eager=True)
    return float(np.average(per_step.to_numpy(), weights=(chosen.train["steps"] * weight).to_numpy()))


def _tokens(lake: Lake, rows: pl.DataFrame, contracts: Mapping[str, Contract], count: Counter) -> pl.Series:
    """Return tokens per step of each row: those of its episode's task, and of the dataset's other texts."""
    tasks = rows["task"].fill_null("")
    unique = tasks.unique().to_list()
    found = tasks.replace_strict(unique, count(unique), return_dtype=pl.Float64).to_numpy().copy()
    for dataset, contract in contracts.items():
        texts = [f.name for f in contract.features if f.dtype == "string" and not f.privileged]
        mine = np.flatnonzero((rows["dataset"] == dataset).to_numpy()) if texts else np.empty(0, np.int64)
        for number in mine.tolist():
            row = rows.row(number, named=True)
            steps = open_shard(lake, dataset, row["shard"]).steps.slice(row["first_row"], row["steps"])
            for name in texts:
                frame = pl.Series(steps.column(name).combine_chunks()).cast(pl.String).fill_null("").value_counts()
                sizes = count(frame[frame.columns[0]].to_list())
                found[number] += float(np.average(sizes, weights=frame["count"].to_numpy()))
    return pl.Series(found)
