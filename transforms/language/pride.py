"""How far a paraphrase is from its instruction, and success weighted by it: PD and PRIDE of LIBERO-Para.

    PD = 1 - (alpha S_K + (1 - alpha) S_T),   alpha = 0.5
    PRIDE = 100 sum(success PD) / sum(PD)

S_K compares content words, S_T dependency trees; both in [0, 1]. The published figures take S_K from sentence embeddings and S_T from
a dependency parser: pass such callables. Without them, `transforms.language.lexical` offers a weight-free variant, which must be named
`lexical` wherever its numbers are shown: it is not comparable with the published ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import UsageError

Similarity = Callable[[str, str], float]
ALPHA = 0.5
LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class Distance:
    """PD of one paraphrase and what it is made of; `variant` says by whose similarities."""

    pd: float
    keywords: float
    structure: float
    variant: str


@dataclass(frozen=True, slots=True)
class Pride:
    """Measures paraphrases with two similarities.

    Attributes:
        keywords: S_K of (paraphrase, instruction).
        structure: S_T of the same.
        variant: `lexical`, or what the callables are ("sbert+spacy").
        alpha: weight of the keywords.
    """

    keywords: Similarity
    structure: Similarity
    variant: str
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha={self.alpha} must lie in 0..1")

    def __call__(self, text: str, original: str) -> Distance:
        """Return the distance of `text` from `original`.

        Raises:
            UsageError: a similarity left 0..1.
        """
        found = {"keywords": self.keywords(text, original), "structure": self.structure(text, original)}
        for name, value in found.items():
            if not -1e-6 <= value <= 1 + 1e-6:
                raise UsageError(
                    f"the similarity {name} of variant {self.variant} gave {value:g} for {text!r}; it must lie in 0..1"
                )
        k, t = (min(max(float(v), 0.0), 1.0) for v in found.values())
        return Distance(paraphrase_distance(k, t, self.alpha), k, t, self.variant)


def paraphrase_distance(keywords: float, structure: float, alpha: float = ALPHA) -> float:
    """Return PD of one paraphrase; 0 for the instruction itself."""
    return 1.0 - (alpha * keywords + (1 - alpha) * structure)


def pride(success: Sequence[bool], distance: Sequence[float]) -> float:
    """Return PRIDE in 0..100; NaN where no paraphrase differs from its instruction.

    Raises:
        UsageError: as many outcomes as distances are needed.
    """
    if len(success) != len(distance):
        raise UsageError(f"{len(success)} outcomes for {len(distance)} paraphrases; give one each")
    won, weight = np.asarray(success, np.float64), np.asarray(distance, np.float64)
    total = float(weight.sum())
    return 100.0 * float(won @ weight) / total if total > 0 else float("nan")
