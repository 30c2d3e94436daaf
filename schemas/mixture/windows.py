"""What a sample of a mixture holds around its step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.checks import as_floats, build, choice, number, truth
from schemas.errors import UsageError
from schemas.goals import GoalSpec, TdSpec

Match = Literal["hold", "nearest"]
Edge = Literal["repeat", "mask", "zero_relative", "drop"]


@dataclass(frozen=True, slots=True)
class DropoutSpec:
    """What a sample is made to do without, each by a draw of its own: the same for the same draw on every worker, rank and resume.

    What was dropped is told by `dropped.<condition>` with every sample.

    Attributes:
        language: chance that `task` is empty.
        goal: chance that every `goal.*` is zero and padding.
        history: chance that everything before the anchor in observation windows is zero and padding.
    """

    language: float = 0.0
    goal: float = 0.0
    history: float = 0.0

    def __post_init__(self) -> None:
        for key in ("language", "goal", "history"):
            number(f"windows.dropout.{key}", getattr(self, key), 0, 1, "a chance from 0 to 1", upper=True)
        as_floats(self, "language", "goal", "history")


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A window over a signal that keeps a clock of its own: force, sound features, gaze, joint logs.

    Each instant shows the latest sample known by then (zero-order hold), never a later one.

    Attributes:
        offsets_s: instants relative to the anchor step's time.
        latency_s: how long after its capture a sample is known.
        oldest_s: an older sample is padding; None: however old.
    """

    offsets_s: tuple[float, ...]
    latency_s: float = 0.0
    oldest_s: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.offsets_s, str) or not isinstance(self.offsets_s, Sequence) or not self.offsets_s:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"windows.streams: offsets_s is {self.offsets_s!r}; give at least one offset in seconds")
        for offset in self.offsets_s:
            number("windows.streams: offsets_s", offset, -math.inf, math.inf, "a list of offsets in seconds")
        object.__setattr__(self, "offsets_s", tuple(float(o) for o in self.offsets_s))
        number("windows.streams: latency_s", self.latency_s, 0, math.inf, "seconds, 0 or more")
        if self.oldest_s is not None:
            number("windows.streams: oldest_s", self.oldest_s, 0, math.inf, "seconds, 0 or more")
        as_floats(self, "latency_s", "oldest_s")


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """What a sample holds around its anchor step, in seconds.

    Attributes:
        observation_s: offsets of `observation.*` features and cameras; empty: the anchor alone, without a time axis.
        action_horizon_s: the action chunk covers `[0, horizon)`; 0: the anchor's action alone, without a time axis.
        action_hz: actions per second of the chunk; None: each dataset's own control rate.
        match: which step an instant means: the `nearest`, which on a clock that wobbles is still LeRobot's frame arithmetic, or
            `hold`, the latest one not after it, for chunks at another rate than the data's. Neither looks beyond the anchor for
            offsets up to 0.
        edge: what entries outside the episode hold, always under `<key>_is_pad`: `repeat` the first or last value, as LeRobot
            does; `mask`: zero; `zero_relative`: zero where the contract says change or speed, the last value elsewhere, so that
            a padded chunk stands still; `drop`: steps whose window leaves the episode are not drawn at all.
        latency_s: per key, how long after its capture a value is known; what is read is then that much older.
        vision_delay_s: pictures are older by a delay drawn per sample from 0 to this, as when vision runs asynchronously.
        vision_delays_s: delays measured in deployment: a sample draws one of these instead; one that is listed twice comes twice as often.
        staleness: emit `<key>_staleness_s` for every observation: the instant asked for minus the time of the step read. Keys
            with a latency or a delay emit it anyway.
        action_past_s: the action chunk also covers the past `[-action_past_s, 0)`, at the same rate.
        goal: show a goal as `goal.<key>` for every `observation.<key>`; None: none.
        td: show a chunk of temporal-difference learning as `td.*` and `next.<key>`, towards the goal where there is one, else of the
            recorded rewards; None: none.
        dropout: conditions that some samples do without; None: none.
        streams: per signal with a clock of its own, a window over it, shown as `stream.<name>` with `_is_pad` and `_staleness_s`.
    """

    observation_s: tuple[float, ...] = ()
    action_horizon_s: float = 0.0
    action_hz: float | None = None
    match: Match = "nearest"
    edge: Edge = "repeat"
    latency_s: Mapping[str, float] = field(default_factory=dict[str, float])
    vision_delay_s: float = 0.0
    staleness: bool = False
    action_past_s: float = 0.0
    goal: GoalSpec | None = None
    td: TdSpec | None = None
    dropout: DropoutSpec | None = None
    vision_delays_s: tuple[float, ...] = ()
    streams: Mapping[str, StreamSpec] = field(default_factory=dict[str, StreamSpec])

    def __post_init__(self) -> None:
        if isinstance(self.observation_s, str) or not isinstance(self.observation_s, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"windows.observation_s is {self.observation_s!r}; give a list of offsets in seconds, for example [-0.1, 0.0]"
            )
        for offset in self.observation_s:
            number("windows.observation_s", offset, -math.inf, math.inf, "a list of offsets in seconds")
        object.__setattr__(self, "observation_s", tuple(float(o) for o in self.observation_s))
        number("windows.action_horizon_s", self.action_horizon_s, 0, math.inf, "seconds, 0 or more")
        number("windows.action_past_s", self.action_past_s, 0, math.inf, "seconds, 0 or more")
        if self.action_hz is not None:
            number("windows.action_hz", self.action_hz, 0, math.inf, "actions per second, above 0", strict=True)
        choice("windows.match", self.match, ("hold", "nearest"))
        choice("windows.edge", self.edge, ("repeat", "mask", "zero_relative", "drop"))
        self._check_lateness()
        if self.dropout is not None and self.dropout.goal and self.goal is None:
            raise UsageError(
                "windows.dropout.goal drops a goal that windows.goal does not ask for; add [windows.goal] or remove it"
            )
        as_floats(self, "action_horizon_s", "action_past_s", "action_hz", "vision_delay_s")
        object.__setattr__(self, "streams", dict(sorted(self.streams.items())))

    def _check_lateness(self) -> None:
        if not isinstance(self.latency_s, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"windows.latency_s is {self.latency_s!r}; give a table of seconds by key")
        for key, seconds in self.latency_s.items():
            number(f"windows.latency_s.{key}", seconds, 0, math.inf, "seconds, 0 or more")
        object.__setattr__(self, "latency_s", {k: float(v) for k, v in sorted(self.latency_s.items())})
        number("windows.vision_delay_s", self.vision_delay_s, 0, math.inf, "seconds, 0 or more")
        truth("windows.staleness", self.staleness)
        if isinstance(self.vision_delays_s, str) or not isinstance(self.vision_delays_s, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"windows.vision_delays_s is {self.vision_delays_s!r}; give a list of seconds")
        for seconds in self.vision_delays_s:
            number("windows.vision_delays_s", seconds, 0, math.inf, "a list of seconds, 0 or more")
        object.__setattr__(self, "vision_delays_s", tuple(float(s) for s in self.vision_delays_s))
        if self.vision_delays_s and self.vision_delay_s:
            raise UsageError("windows: vision_delay_s and vision_delays_s both say how late pictures are; keep one of them")


def build_windows(raw: Any) -> WindowSpec:
    """Build a `WindowSpec`, with the tables inside it."""
    kinds: dict[str, Any] = {"goal": GoalSpec, "td": TdSpec, "dropout": DropoutSpec}
    if isinstance(raw, Mapping):
        raw = {k: build(kinds[k], v, f"windows.{k}") if k in kinds and v is not None else v for k, v in raw.items()}
        if (streams := raw.get("streams")) is not None:
            if not isinstance(streams, Mapping):
                raise UsageError(f"windows.streams is {streams!r}; give a table [windows.streams.NAME] for each signal")
            raw["streams"] = {k: build(StreamSpec, v, f"windows.streams.{k}") for k, v in streams.items()}
    return build(WindowSpec, raw, "windows")
