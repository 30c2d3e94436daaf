"""The mixture spec and the schema of a mixture's index. What a spec compiles to lives in `pipelines.mixture`."""

from schemas.mixture.index import INDEX, WEIGHTED_INDEX
from schemas.mixture.sources import MODALITIES, ROUTES, LocalitySpec, PhaseSpec, SourceSpec, SplitSpec, Unit
from schemas.mixture.spec import MixtureSpec, load_spec
from schemas.mixture.weights import ResamplingSpec, WeightSpec
from schemas.mixture.windows import DropoutSpec, Edge, Match, StreamSpec, WindowSpec

__all__ = [
    "INDEX", "MODALITIES", "ROUTES", "WEIGHTED_INDEX", "DropoutSpec", "Edge", "LocalitySpec", "Match", "MixtureSpec", "PhaseSpec",
    "ResamplingSpec", "SourceSpec", "SplitSpec", "StreamSpec", "Unit", "WeightSpec", "WindowSpec", "load_spec",
]  # fmt: skip
