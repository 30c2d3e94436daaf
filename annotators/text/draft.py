"""One text before it is a row: what it says, about which steps, what it was made from, and what its verifiers found."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from schemas.ids import digest

VERDICTS = ("grounded", "derived", "balanced", "no_hint", "round_trip", "causal", "in_cell", "violates", "reached", "aligned")
Tier = Literal["template", "model"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A text.

    Attributes:
        kind: of text, one of `annotators.text.config.KINDS`, or `plan_step`.
        template: which rule or prompt made it.
        text: None only where `reason` says why there is none.
        first: first step, within the episode.
        stop: step after its last.
        at: the step it is about where that is one moment, within the episode.
        style: LeRobot's, or None where LeRobot has none and the text stays in the side table.
        question: of a `qa`.
        choices: offered with it.
        answer: the right one; of other kinds, what a consumer compares with.
        slots: what the text was filled from, ready for JSON.
        source: where the truth comes from.
        posterior: whether it was written knowing the action it speaks about.
        negative_of: the text that it is a corruption of, and
        violation: what it breaks.
        cell: of the paraphrase grid.
        distance: PD, S_K, S_T and the variant of them.
        goal: value and tolerance of a goal.
        tier: whether a rule or a model worded it.
        model_fp: fingerprint of that model, and
        prompt_fp: of the prompt.
        tokens: spent on it.
        verdicts: by verifier; those that do not apply are absent.
        reason: why it may not be used.
    """

    kind: str
    template: str
    text: str | None
    first: int
    stop: int
    at: int | None = None
    style: str | None = None
    question: str | None = None
    choices: tuple[str, ...] = ()
    answer: str | None = None
    slots: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: str = "template"
    posterior: bool = False
    negative_of: str | None = None
    violation: str | None = None
    cell: str | None = None
    distance: tuple[float, float, float, str] | None = None
    goal: tuple[float, float] | None = None
    tier: Tier = "template"
    model_fp: str | None = None
    prompt_fp: str | None = None
    tokens: int = 0
    verdicts: Mapping[str, bool] = field(default_factory=dict[str, bool])
    reason: str | None = None

    def judged(self, **verdicts: bool) -> "Draft":
        """Return it with more verdicts; the first that fails is the reason not to use it."""
        failed = next((name for name, ok in verdicts.items() if not ok), None)
        return replace(self, verdicts={**self.verdicts, **verdicts}, reason=self.reason or (failed and f"not_{failed}"))


def pick(count: int, *key: object) -> int:
    """Return one of `count` numbers by the hash of `key`: the same on every machine, whatever else is asked."""
    return int(digest([*key])[:15], 16) % count
