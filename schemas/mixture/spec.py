"""The mixture spec as a whole: which episodes, in which shares, for how many samples; read from TOML, checked on construction."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from schemas.errors import UsageError
from schemas.mixture.checks import as_floats, build, number, slug, tables, truth, whole
from schemas.mixture.sources import MAX_SAMPLES, LocalitySpec, PhaseSpec, SourceSpec, SplitSpec
from schemas.mixture.windows import WindowSpec, build_windows

_FIRST_WINDOW_KEYS = ("observation_s", "action_horizon_s", "action_hz", "match")


@dataclass(frozen=True, slots=True)
class MixtureSpec:
    """A mixture: `samples` draws from `sources`.

    Attributes:
        name: a slug.
        samples: number of draws T; one draw is one step of one train episode.
        sources: at least one.
        seed: of the order within every source.
        temperature: exponent a in share ~ weight * steps^a: 0 uses the weights alone, 1 also the sizes. In [0, 1].
        split: which episodes are held out.
        windows: what a sample holds.
        statistics: whether to compute true quantiles over the train split.
        locality: how near successive draws of a source stay; None: a global shuffle.
        phases: stretches with weights of their own, one after the other; together they hold `samples` draws. A source goes on in
            one phase where it stopped in the last, and its cap counts over all of them. Empty: one phase with the sources' weights.
    """

    name: str
    samples: int
    sources: tuple[SourceSpec, ...]
    seed: int = 0
    temperature: float = 0.0
    split: SplitSpec = field(default_factory=SplitSpec)
    windows: WindowSpec = field(default_factory=WindowSpec)
    statistics: bool = True
    locality: LocalitySpec | None = None
    phases: tuple[PhaseSpec, ...] = ()

    def __post_init__(self) -> None:
        slug("name", self.name)
        whole("samples", self.samples, 1, MAX_SAMPLES)
        whole("seed", self.seed, 0, (1 << 63) - 1)
        number("temperature", self.temperature, 0, 1, "an exponent from 0 (weights alone) to 1 (weights times sizes)", upper=True)
        as_floats(self, "temperature")
        truth("statistics", self.statistics)
        if not self.sources:
            raise UsageError("sources is empty; add at least one [[sources]] table")
        names = [s.name for s in self.sources]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise UsageError(f"sources: {twice} appear more than once; give every source its own name")
        floors = math.fsum(s.floor for s in self.sources)
        if floors > 1 + 1e-12:
            raise UsageError(f"sources.*.floor add up to {floors:.4g}; shares cannot exceed 1, lower some of them")
        if self.phases:
            self._check_phases(names)

    def _check_phases(self, names: list[str]) -> None:
        total = sum(p.samples for p in self.phases)
        if total != self.samples:
            raise UsageError(f"phases.*.samples add up to {total}, samples is {self.samples}; leave samples out")
        for place, phase in enumerate(self.phases):
            for name in phase.weights:
                if name not in names:
                    near = get_close_matches(name, names, 1)
                    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
                    raise UsageError(
                        f"phases[{place}].weights names the source {name!r}, which the mixture does not have; {hint}"
                    )
        if unused := [n for n in names if all(n not in p.weights for p in self.phases)]:
            raise UsageError(f"no phase gives {', '.join(unused)} a weight; name them in [phases.weights] or remove the sources")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back.

        Keys added since the first release appear only where they say something, so that a mixture made before keeps its hash.
        """
        body = asdict(self)
        body["windows"] = {k: v for k, v in body["windows"].items() if k in _FIRST_WINDOW_KEYS or v != getattr(WindowSpec(), k)}
        return {k: v for k, v in body.items() if k not in ("locality", "phases") or v}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build a spec from plain values (parsed TOML or JSON).

        Raises:
            UsageError: a key is unknown, missing or holds an impossible value; the message names it.
        """
        body = dict(raw)
        body["sources"] = tables(SourceSpec, body.get("sources", ()), "sources")
        body["phases"] = tables(PhaseSpec, body.get("phases", ()), "phases")
        if body["phases"]:
            body.setdefault("samples", sum(p.samples for p in body["phases"]))
        for key, kind in (("split", SplitSpec), ("locality", LocalitySpec)):
            if body.get(key) is not None:
                body[key] = build(kind, body[key], key)
        if body.get("windows") is not None:
            body["windows"] = build_windows(body["windows"])
        return build(cls, body, "")


def load_spec(path_or_text: str | Path) -> MixtureSpec:
    """Read a mixture spec from a TOML file, or from TOML text (any string with a line break or `=`).

    Raises:
        UsageError: the file is missing, is not TOML, or says something impossible; the message names file and key.
    """
    text, where = _read(path_or_text)
    try:
        return MixtureSpec.from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _read(path_or_text: str | Path) -> tuple[str, str]:
    if isinstance(path_or_text, str) and ("\n" in path_or_text or "=" in path_or_text):
        return path_or_text, "the mixture spec"
    path = Path(path_or_text)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except OSError as error:
        raise UsageError(f"{path}: the mixture spec cannot be read ({error.strerror}); give the path of a TOML file") from error
