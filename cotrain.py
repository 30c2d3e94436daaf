"""cotrain's public face: the few names a user needs, loaded on first use. Everything else is reached through its room.

Example:
    >>> import cotrain
    >>> lake = cotrain.open_lake("./lake")
    >>> cotrain.query("SELECT source, count(*) FROM episodes GROUP BY source", lake)
    >>> samples = cotrain.load("demo", lake)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.lake import Lake as Lake
    from pipelines.api import annotate as annotate
    from pipelines.api import curate as curate
    from pipelines.api import export as export
    from pipelines.api import ingest as ingest
    from pipelines.api import mix as mix
    from pipelines.api import open_lake as open_lake
    from pipelines.api import query as query
    from pipelines.api import score as score
    from pipelines.api import verify as verify
    from pipelines.loader.load import load as load
    from schemas.errors import CotrainError as CotrainError

_NAMES = {
    "CotrainError": "schemas.errors",
    "Lake": "catalog.lake",
    "annotate": "pipelines.api",
    "curate": "pipelines.api",
    "export": "pipelines.api",
    "ingest": "pipelines.api",
    "load": "pipelines.loader.load",
    "mix": "pipelines.api",
    "open_lake": "pipelines.api",
    "query": "pipelines.api",
    "score": "pipelines.api",
    "verify": "pipelines.api",
}
__all__ = sorted(_NAMES)  # noqa: PLE0605 (a test guards the list)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"cotrain has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
