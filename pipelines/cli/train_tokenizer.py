"""`cotrain train-tokenizer`: fit an action tokenizer on a selection."""

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, LakeOption, key_values

NAME = "train-tokenizer"


def command(
    what: Annotated[str, typer.Argument(help="A dataset, a mixture, a condition or a SELECT that returns episode_id.")] = "all",
    scheme: Annotated[str, typer.Option("--scheme", help="bins, fast or beast.")] = "fast",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: horizon_s, scale, vocabulary, points_per_s, tolerance, column, fit_on."),
    ] = None,
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Fit true quantiles per action space and, for fast, one vocabulary. The file is named after its content; fitting again changes nothing."""
    from annotators.tokens.book import TokenizerSpec
    from catalog.lake import Lake
    from pipelines.terminal.console import Console
    from pipelines.tokenizers import train_tokenizer
    from schemas.settings import parse_settings

    where, console = Lake.at(lake), Console(as_json)
    trained = train_tokenizer(where, what, parse_settings(TokenizerSpec, {"scheme": scheme, **key_values(settings)}))
    book = trained.book
    console.text(f"{book.tokenizer_id}: {trained.path}")
    rows = [
        (p.space.key, p.space.horizon, p.space.dims, p.codec.chunks.size, p.episodes, p.chunks, f"{p.codec.chunks.bound.value:.3g} {p.codec.chunks.bound.norm}")
        for p in book.pages
    ]  # fmt: skip
    console.table(
        ("action space", "steps", "dimensions", "tokens", "episodes", "chunks", "bound"),
        rows,
        title=f"{book.spec.scheme} tokenizer",
    )
    for dataset, reason in trained.skipped.items():
        console.text(f"{dataset} was left out: {reason}")
    console.result(
        {
            "command": NAME,
            "tokenizer": book.tokenizer_id,
            "path": trained.path,
            "spaces": [p.space.key for p in book.pages],
            "skipped": dict(trained.skipped),
        }
    )
    return 0
