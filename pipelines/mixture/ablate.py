"""The plan family of co-training data: a mixture with every kind of data, without one, and with only one beside the robot's own.

Siblings keep seed and number of draws, and every source its own order, so that two of them differ in one modality and in nothing
else; the shares of the others grow or shrink together. (Five modalities, leave one out and add one in: arXiv 2602.01067.)
"""

from collections.abc import Iterable
from dataclasses import replace

from schemas.errors import UsageError
from schemas.mixture import MODALITIES, MixtureSpec, PhaseSpec, SourceSpec

BASE = "robot"


def family(spec: MixtureSpec) -> dict[str, MixtureSpec]:
    """Return the siblings by suffix: `full`, `without-<modality>` each, `robot`, and `robot-plus-<modality>` each.

    Raises:
        UsageError: a source has no modality, the robot's own data is missing, or nothing is there to leave out.
    """
    if unnamed := [s.name for s in spec.sources if not s.modality]:
        raise UsageError(f"sources {unnamed} have no modality; give each one of {', '.join(MODALITIES)}")
    present = [m for m in MODALITIES if any(s.modality == m for s in spec.sources)]
    others = [m for m in present if m != BASE]
    if BASE not in present or not others:
        raise UsageError(
            f"an ablation needs sources of modality {BASE} and of at least one other; there are {', '.join(present)}"
        )
    found = {"full": spec}
    found |= {f"without-{m}": _only(spec, (s for s in spec.sources if s.modality != m)) for m in others}
    found[BASE] = _only(spec, (s for s in spec.sources if s.modality == BASE))
    found |= {f"{BASE}-plus-{m}": _only(spec, (s for s in spec.sources if s.modality in (BASE, m))) for m in others}
    return {suffix: replace(one, name=f"{spec.name}-{suffix.replace('_', '-')}") for suffix, one in _distinct(found).items()}


def _distinct(found: dict[str, MixtureSpec]) -> dict[str, MixtureSpec]:
    """Leave out siblings that another one is already: with one modality beside the robot's, some coincide."""
    kept: dict[str, MixtureSpec] = {}
    for suffix, spec in found.items():
        if spec not in kept.values():
            kept[suffix] = spec
    return kept


def _only(spec: MixtureSpec, sources: Iterable[SourceSpec]) -> MixtureSpec:
    kept = tuple(sources)
    names = {s.name for s in kept}
    phases = tuple(_phase(spec, number, phase, names) for number, phase in enumerate(spec.phases))
    terms = [
        replace(t, sources=tuple(n for n in t.sources if n in names))
        for t in spec.weights
        if not t.sources or names & {*t.sources}
    ]
    return replace(spec, sources=kept, phases=phases, weights=tuple(terms))


def _phase(spec: MixtureSpec, number: int, phase: PhaseSpec, names: set[str]) -> PhaseSpec:
    parts = {key: {n: v for n, v in getattr(phase, key).items() if n in names} for key in ("weights", "end_weights", "routes")}
    if not parts["weights"] or (phase.end_weights and not parts["end_weights"]):
        raise UsageError(
            f"phase {number} of {spec.name} would have no source left without one of its modalities; give it a source of modality {BASE}"
        )
    return replace(phase, **parts)
