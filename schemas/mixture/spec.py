"""The mixture spec as a whole: which episodes, in which shares, for how many samples; read from TOML, checked on construction."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from schemas.checks import as_floats, build, choice, load_toml, number, slug, suggestion, tables, text, truth, whole
from schemas.errors import UsageError
from schemas.mixture.sources import MAX_SAMPLES, UNITS, LocalitySpec, PhaseSpec, SourceSpec, SplitSpec, Unit
from schemas.mixture.weights import ResamplingSpec, WeightSpec
from schemas.mixture.windows import WindowSpec, build_windows

_FIRST_KEYS = ("name", "samples", "sources", "seed", "temperature", "split", "windows", "statistics")
_FIRST_WINDOW_KEYS = ("observation_s", "action_horizon_s", "action_hz", "match")
_FIRST_PHASE_KEYS = ("samples", "weights")
_LATER_SOURCE_KEYS = ("modality", "route")


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
        weights: how much the steps of a source count against each other; empty: all the same.
        resampling: what weights may cost at most.
        unit: what shares are shares of: draws, the `frames` that samples show, or the `tokens` of their texts.
        tokenizer: a `tokenizer.json` that counts tokens; empty: words and punctuation marks.
        image_frames: pictures per camera and dataset whose colours statistics describe, chosen evenly; 0: none.
        group: this many successive draws come from one episode, at different steps of it.
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
    weights: tuple[WeightSpec, ...] = ()
    resampling: ResamplingSpec = field(default_factory=ResamplingSpec)
    unit: Unit = "samples"
    tokenizer: str = ""
    image_frames: int = 0
    group: int = 1

    def __post_init__(self) -> None:
        slug("name", self.name)
        whole("samples", self.samples, 1, MAX_SAMPLES)
        whole("seed", self.seed, 0, (1 << 63) - 1)
        number("temperature", self.temperature, 0, 1, "an exponent from 0 (weights alone) to 1 (weights times sizes)", upper=True)
        as_floats(self, "temperature")
        truth("statistics", self.statistics)
        choice("unit", self.unit, UNITS)
        text("tokenizer", self.tokenizer)
        whole("image_frames", self.image_frames, 0, 1 << 20)
        whole("group", self.group, 1, 1 << 16)
        self._check_together()
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
        for term in self.weights:
            for name in term.sources:
                _known(f"weights.sources of {term.name}", name, names)

    def _check_together(self) -> None:
        if self.tokenizer and self.unit != "tokens":
            raise UsageError(f"tokenizer is set but unit is {self.unit!r}; say unit = 'tokens', or leave it out")
        if self.image_frames and not self.statistics:
            raise UsageError("image_frames is set but statistics is false; turn statistics on, or leave it out")
        if self.group > 1 and self.locality is not None:
            raise UsageError("group and locality both say how near successive draws stay; choose one of them")
        for samples in [p.samples for p in self.stretches()] if self.group > 1 else []:
            if samples % self.group:
                raise UsageError(f"a phase of {samples} samples does not hold whole groups of {self.group}; use a multiple")

    def _check_phases(self, names: list[str]) -> None:
        total = sum(p.samples for p in self.phases)
        if total != self.samples:
            raise UsageError(f"phases.*.samples add up to {total}, samples is {self.samples}; leave samples out")
        for place, phase in enumerate(self.phases):
            for key in ("weights", "end_weights", "routes"):
                for name in getattr(phase, key):
                    _known(f"phases[{place}].{key}", name, names)
        if unused := [n for n in names if all(n not in p.names for p in self.phases)]:
            raise UsageError(f"no phase gives {', '.join(unused)} a weight; name them in [phases.weights] or remove the sources")

    def stretches(self) -> tuple[PhaseSpec, ...]:
        """Return the stretches of constant shares: phases, moving ones in pieces; without phases, one with the sources' weights."""
        if not self.phases:
            return (PhaseSpec(self.samples, {s.name: s.weight for s in self.sources}),)
        return tuple(piece for phase in self.phases for piece in phase.stretches())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back.

        Keys added since the first release appear only where they say something, so that a mixture made before keeps its hash.
        """
        body = asdict(self)
        body["windows"] = {k: v for k, v in body["windows"].items() if k in _FIRST_WINDOW_KEYS or v != getattr(WindowSpec(), k)}
        body["sources"] = tuple({k: v for k, v in s.items() if k not in _LATER_SOURCE_KEYS or v} for s in body["sources"])
        plain = asdict(PhaseSpec(1 << 10, {"any": 1.0}))
        body["phases"] = tuple({k: v for k, v in p.items() if k in _FIRST_PHASE_KEYS or v != plain[k]} for p in body["phases"])
        usual = {f.name: f.default for f in fields(self)} | {"resampling": asdict(ResamplingSpec())}
        return {k: v for k, v in body.items() if k in _FIRST_KEYS or (v and v != usual[k])}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build a spec from plain values (parsed TOML or JSON).

        Raises:
            UsageError: a key is unknown, missing or holds an impossible value; the message names it.
        """
        body = dict(raw)
        body["sources"] = tables(SourceSpec, body.get("sources", ()), "sources")
        body["phases"] = tables(PhaseSpec, body.get("phases", ()), "phases")
        body["weights"] = tables(WeightSpec, body.get("weights", ()), "weights")
        if body["phases"]:
            body.setdefault("samples", sum(p.samples for p in body["phases"]))
        for key, kind in (("split", SplitSpec), ("locality", LocalitySpec), ("resampling", ResamplingSpec)):
            if body.get(key) is not None:
                body[key] = build(kind, body[key], key)
        if body.get("windows") is not None:
            body["windows"] = build_windows(body["windows"])
        return build(cls, body, "")


def _known(key: str, name: str, names: list[str]) -> None:
    """Check that the mixture has a source of that name."""
    if name not in names:
        raise UsageError(f"{key} names the source {name!r}, which the mixture does not have; {suggestion(name, names)}")


def load_spec(path_or_text: str | Path) -> MixtureSpec:
    """Read a mixture spec from a TOML file, or from TOML text (any string with a line break or `=`).

    Raises:
        UsageError: the file is missing, is not TOML, or says something impossible; the message names file and key.
    """
    return load_toml(path_or_text, MixtureSpec.from_dict, "mixture")
