"""The mixture spec and the schema of a mixture's index. What a spec compiles to lives in `pipelines.mixture`."""

from schemas.mixture.index import INDEX
from schemas.mixture.sources import LocalitySpec, PhaseSpec, SourceSpec, SplitSpec
from schemas.mixture.spec import MixtureSpec, load_spec
from schemas.mixture.windows import Edge, Match, WindowSpec

__all__ = [
    "INDEX",
    "Edge",
    "LocalitySpec",
    "Match",
    "MixtureSpec",
    "PhaseSpec",
    "SourceSpec",
    "SplitSpec",
    "WindowSpec",
    "load_spec",
]
