"""What a report says besides what the catalog already knows: plain values, so that no stage has to be imported to write one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Segment:
    """A text that holds for `[start_s, end_s)` of an episode."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class MixtureShare:
    """One source of a mixture. Shares are fractions of all samples.

    Attributes:
        name: the source.
        asked: the share its weight alone would give.
        target: the share after temperature, caps and floors.
        realised: the share counted over the draws of the plan.
        draws: how often it is drawn.
        episodes: train episodes it draws from.
        steps: its items.
        epochs: how often each item is drawn, on average.
        max_epochs: the cap, None for none.
        note: what shaped the share, in words.
    """

    name: str
    asked: float
    target: float
    realised: float
    draws: int
    episodes: int
    steps: int
    epochs: float
    max_epochs: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class MixtureSummary:
    """A pinned mixture: its name, hash, number of draws and sources."""

    name: str
    hash: str
    samples: int
    shares: tuple[MixtureShare, ...]


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """One exported dataset and what reading it back found. `differences` None: not verified."""

    dataset: str
    format: str
    folder: str
    episodes: int
    rows: int
    bytes: int
    copied: int = 0
    transcoded: int = 0
    reader: str = ""
    steps_compared: int = 0
    frames_compared: int = 0
    differences: int | None = None


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage of the run took, and what it did, in a few words."""

    stage: str
    seconds: float
    what: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line to go on with, and what it answers."""

    line: str
    about: str


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Everything a report needs that the catalog does not hold.

    Attributes:
        title: heading of the page.
        mixture: the asked-against-realised table; None takes the catalog's newest mixture, if there is one.
        exports: finished exports; None takes them from the catalog's `publications`.
        motions: per episode id, labelled segments for the strip under its contact sheet; where there are none, narrations are shown.
        stages: times of this run, in order.
        commands: what to type next.
        episodes_per_source: contact sheets per dataset.
        frames: pictures per camera and sheet.
    """

    title: str
    mixture: MixtureSummary | None = None
    exports: tuple[ExportSummary, ...] | None = None
    motions: Mapping[str, tuple[Segment, ...]] = field(default_factory=dict[str, tuple[Segment, ...]])
    stages: tuple[StageTime, ...] = ()
    commands: tuple[Command, ...] = ()
    episodes_per_source: int = 2
    frames: int = 8

    def __post_init__(self) -> None:
        if self.episodes_per_source < 1 or self.frames < 1:
            raise UsageError(
                f"a report shows at least one episode per source and one frame per sheet, not {self.episodes_per_source} "
                f"and {self.frames}"
            )


def segments(starts: Iterable[tuple[float, str]], duration_s: float) -> tuple[Segment, ...]:
    """Turn `(start_s, text)` rows, each holding until the next, into segments; equal neighbours become one."""
    result: list[Segment] = []
    for start, text in sorted(starts, key=lambda row: row[0]):
        if start >= duration_s:
            break
        if result and result[-1].text == text:
            continue
        if result:
            result[-1] = Segment(result[-1].start_s, start, result[-1].text)
        result.append(Segment(start, duration_s, text))
    return tuple(s for s in result if s.text and s.end_s > s.start_s)
