"""What is written and by whom: the settings of the annotator `text`."""

from dataclasses import dataclass

from schemas.errors import UsageError
from transforms.language.sequences import Constraints

KINDS = ("qa", "rationale", "paraphrase", "implausible", "goal", "anticipation", "plan")
MODEL_KINDS = ("qa", "rationale", "paraphrase")


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Lengths in seconds and metres.

    Attributes:
        kinds: which texts to write.
        choices: answers offered with a question, at most.
        moved_m: an object this far from where it began has moved.
        window_s: the stretch a rationale is about; it reads nothing after it.
        step_m: a hand that moves less than this in a window, along an axis, does not move along it.
        tolerance: how near to a goal counts as reached, as a share of its whole.
        hold_s: how long a goal must hold at the end.
        ahead: acts to anticipate, Z.
        observed: share of an episode that anticipation sees.
        least_aligned: share of a plan's steps that must find their segment.
        before: pairs of verbs whose order holds in the dataset, and
        pairs: verbs and nouns that occur together, or are too rare to tell; both mined by `calibrate=true`, what implausible sequences break.
        support: least occurrences for a constraint.
        confidence: least share that keeps it.
        model: empty for templates only; `http://host/v1#name`, `transformers:<folder>` or `recorded:<fingerprint>` adds its texts.
        replies: folder of finished replies; a run that was stopped goes on from there. Needed with a model.
        retries: how often a failed call is made again.
        wait_s: before the first of these; doubled each time.
        timeout_s: of one call.
    """

    kinds: tuple[str, ...] = KINDS
    choices: int = 4
    moved_m: float = 0.05
    window_s: float = 0.5
    step_m: float = 0.02
    tolerance: float = 0.1
    hold_s: float = 0.2
    ahead: int = 20
    observed: float = 0.5
    least_aligned: float = 0.6
    before: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    support: int = 20
    confidence: float = 0.98
    model: str = ""
    replies: str = ""
    retries: int = 3
    wait_s: float = 1.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise UsageError(f"kinds={unknown} are unknown; use {', '.join(KINDS)}")
        if not self.kinds:
            raise UsageError(f"kinds is empty and nothing would be written; use some of {', '.join(KINDS)}")
        for name in ("moved_m", "window_s", "step_m", "tolerance", "timeout_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above zero")
        if self.choices < 2 or self.ahead < 1 or self.retries < 0 or self.wait_s < 0 or self.hold_s < 0:
            raise UsageError("choices must be 2 or more, ahead 1 or more; retries, wait_s and hold_s not negative")
        if not (0 < self.observed < 1 and 0 <= self.least_aligned <= 1 and 0 < self.confidence <= 1):
            raise UsageError("observed lies between 0 and 1, least_aligned in 0..1, confidence above 0 and at most 1")
        if self.model and not self.replies:
            raise UsageError(f"model={self.model} needs replies=<folder>: finished calls are kept there and never made twice")

    @property
    def constraints(self) -> Constraints:
        """What sequences of this dataset keep to."""
        return Constraints(self.before, self.pairs)
