"""From what a command or a notebook says to stages: one per teacher, each over its own sources."""

from collections.abc import Mapping, Sequence
from typing import Any

from catalog.lake import Lake
from pipelines.mixture.manifest import open_mixture
from pipelines.residuals.assign import Named, assignments
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.stage import CacheStage
from schemas.errors import UsageError
from schemas.settings import parse_settings


def plan_stages(
    lake: Lake, mixture: str, teachers: Sequence[str], student: str = "", config: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (), device: str = "cpu",
) -> list[CacheStage]:  # fmt: skip
    """Return one stage per teacher.

    Args:
        lake: where the mixture is.
        mixture: `NAME` or `NAME@HASH`.
        teachers: `SPEC`, or `SOURCE=SPEC` once per source; see `pipelines.residuals.assign`.
        student: its text, where it is another model.
        config: fields of `CacheConfig`.
        sources: only these; empty: all, or those the teachers name.
        device: where models run.

    Raises:
        UsageError: a source, a setting or a teacher is unknown, or teachers overlap.
    """
    name, _, wanted = mixture.removeprefix("mixture:").partition("@")
    opened = open_mixture(lake, name, wanted or None)
    given = assignments(teachers, [s.name for s in opened.spec.sources])
    if sources and any(given.values()):
        raise UsageError("say either --source or --teacher SOURCE=SPEC, not both")
    settings = parse_settings(CacheConfig, config or {})
    return [
        CacheStage(lake, f"{name}@{opened.hash}", Named(spec, student, device), settings, names or tuple(sources))
        for spec, names in given.items()
    ]
