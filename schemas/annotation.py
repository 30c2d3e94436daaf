"""What every annotation row carries, whichever annotator wrote it: whose it is, which span it covers, and whether it may be used.

Rows are spans of one episode, half-open in time and in steps. A row that cannot be used is still written, with `valid` false and
the reason, so that coverage can be audited.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import pyarrow as pa

NAME = pa.dictionary(pa.int32(), pa.string())
LAYERS = {"text": "kind"}  # annotators whose runs add up, and the column of which each value is a layer; see `catalog.layers`

SPAN_COLUMNS: tuple[pa.Field, ...] = (
    pa.field("episode_id", NAME, nullable=False),
    pa.field("start_ns", pa.int64(), nullable=False),  # episode clock
    pa.field("end_ns", pa.int64(), nullable=False),  # first nanosecond after the span
    pa.field("start_step", pa.int32(), nullable=False),
    pa.field("end_step", pa.int32(), nullable=False),  # first step after the span
    pa.field("camera", NAME),  # the view a row depends on; null: none
    pa.field("annotator_fp", NAME, nullable=False),
    pa.field("valid", pa.bool_(), nullable=False),
    pa.field("reason", NAME),  # why not valid; null exactly where valid
    pa.field("confidence", pa.float32()),  # in [0, 1]; null where the annotator has none
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one right answer: what a text of style `vqa` holds, as JSON.

    Attributes:
        question: in words.
        choices: what may be answered; empty: anything.
        answer: the right one.
        label: what it is about, and
        attribute: which property of it; the answer is its value.
    """

    question: str
    choices: tuple[str, ...]
    answer: str
    label: str
    attribute: str

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what `to_json` wrote; None of any other text."""
        try:
            body: dict[str, Any] = json.loads(text)
            body["choices"] = tuple(body["choices"])
            return cls(**body)
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def asked(self) -> str:
        """The question with its choices."""
        return f"{self.question} ({' / '.join(self.choices)})" if self.choices else self.question


@dataclass(frozen=True, slots=True)
class LanguageRow:
    """A text that holds from `start_ns` (episode clock) on. `style` is LeRobot's: `motion`, `subtask`, ..."""

    style: str
    text: str
    start_ns: int
    camera: str | None = None


def annotation_schema(own: pa.Schema) -> pa.Schema:
    """Return the schema of an annotator's side table: the span columns, then its own.

    Raises:
        ValueError: `own` repeats a span column.
    """
    if twice := sorted({f.name for f in SPAN_COLUMNS} & set(own.names)):
        raise ValueError(f"an annotator's own columns may not be called {twice}: every side table has those already")
    return pa.schema([*SPAN_COLUMNS, *own])
