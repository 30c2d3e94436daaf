"""One episode, mapped: its clock, features and frame numbers as arrays that a random step can be read from at no cost."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.lake import Lake
from pipelines.loader.fields import Field
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import UsageError
from schemas.mixture import Match
from transforms.columns import feature_array
from transforms.windows import Window, delayed_window, drawn_delay_ns, period_ns, signal_window

OPEN_EPISODES = 4096  # views hold no pixels and no packets, only mapped arrays
READ_OFTEN = 4  # samples of an episode after which its windows are resolved for all steps at once
WINDOW_ENTRIES, WINDOW_TABLES = 4096, 1024  # most entries of such a table, 17 bytes each; and most tables, shared by equal clocks


@dataclass(frozen=True, slots=True)
class Signal:
    """Samples of one stream: times int64[N] on the episode clock, rising, and values float32[N, D]."""

    t_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class EpisodeView:
    """Read-only arrays of one episode; build it through `episode_view`."""

    shard: Shard
    episode_id: str

    @cached_property
    def steps(self) -> pa.Table:
        """The episode's rows of the shard."""
        return self.shard.episode_steps(self.episode_id)

    @cached_property
    def t_ns(self) -> npt.NDArray[np.int64]:
        """Time of each step on the episode clock, int64[T]."""
        return self.steps.column("t_ns").to_numpy()

    @cached_property
    def period_ns(self) -> int:
        """Median time between steps."""
        return period_ns(self.t_ns, self.shard.contract.control_hz)

    @cached_property
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    def feature(self, name: str) -> npt.NDArray[Any]:
        """Return a numeric feature, [T, *shape]."""
        if name not in self._arrays:
            self._arrays[name] = feature_array(self.steps, self.shard.contract.feature(name))
        return self._arrays[name]

    def frames(self, camera: str) -> npt.NDArray[np.int32]:
        """Return which frame of `camera` each step sees, int32[T], -1 for none."""
        name = f"frame.{camera}"
        if name not in self._arrays:
            self._arrays[name] = self.steps.column(name).to_numpy()
        return self._arrays[name]

    def text(self, column: str, step: int) -> str:
        """Return a string column at one step; empty where it says nothing."""
        found = self._texts.get(column)
        if found is None:
            found = self._texts[column] = _Texts.of(self.steps.column(column))
        return found.at(step)

    @cached_property
    def rewards(self) -> npt.NDArray[np.float32]:
        """Reward of each step, float32[T]; 0 where none was recorded."""
        return self.steps.column("reward").fill_null(0).to_numpy()

    def ends(self, step: int) -> bool:
        """Tell whether the episode's last step is terminal and no later than `step`."""
        return step >= len(self.t_ns) - 1 and bool(self.steps.column("is_terminal")[-1].as_py())

    @property
    def first_row(self) -> int:
        """Row of the episode's first step in the shard's steps."""
        return self.shard.first_row(self.episode_id)

    def look(self, field: Field, step: int, match: Match, draw: int = 0) -> Window:
        """Resolve the window of a field around `step`; arrays of the result are [K], K = 1 without a time axis.

        A delay that is drawn depends on episode, step and `draw` alone, so that all pictures of one sample share it and no worker,
        rank or resume changes it.
        """
        if field.offsets_ns is None and not field.is_late:
            return Window(np.array([step]), np.zeros(1, np.bool_), np.zeros(1, np.int64))
        offsets = field.offsets_ns or (0,)
        if not field.delay_ns:
            every = self._every_window(offsets, field.latency_ns, match)
            if every is not None:
                return Window(every.rows[step], every.is_pad[step], every.staleness_ns[step])
        late = field.latency_ns
        if field.delay_ns:
            late += drawn_delay_ns(field.delays_ns or field.delay_ns, self.episode_id, step, draw)
        found = delayed_window(self.t_ns, [step], offsets, hold_ns=self.period_ns, match=match, late_ns=late)
        return Window(found.rows[0], found.is_pad[0], found.staleness_ns[0])

    def signal(self, stream: str) -> Signal | None:
        """Return the samples of a stream that have values; None: there are none.

        Raises:
            UsageError: they differ in width, so that no window over them has a shape.
        """
        if stream not in self._signals:
            self._signals[stream] = self._read_signal(stream)
        return self._signals[stream]

    def look_at(self, field: Field, signal: Signal, step: int) -> Window:
        """Resolve the window of a stream's field around `step`; arrays of the result are [K]."""
        end = int(self.t_ns[-1]) + self.period_ns
        found = signal_window(
            signal.t_ns,
            self.t_ns[step],
            field.offsets_ns or (0,),
            end_ns=end,
            late_ns=field.latency_ns,
            oldest_ns=field.oldest_ns,
        )
        return Window(found.rows[0], found.is_pad[0], found.staleness_ns[0])

    def _read_signal(self, stream: str) -> Signal | None:
        table = self.shard.episode_streams(self.episode_id)
        mine = table.filter(pa.compute.equal(table.column("stream").cast(pa.string()), stream))
        mine = mine.filter(pa.compute.is_valid(mine.column("values")))
        if not len(mine):
            return None
        lists, times = mine.column("values").combine_chunks(), mine.column("t_ns").to_numpy()
        widths = np.unique(lists.value_lengths().to_numpy())
        if len(widths) > 1:
            raise UsageError(
                f"stream {stream} of {self.episode_id} has samples of {widths[0]} to {widths[-1]} values, so no window over it has a "
                "shape; leave it out of windows.streams, or ingest it as several streams"
            )
        values, order = lists.flatten().to_numpy(zero_copy_only=False), np.argsort(times, kind="stable")
        return Signal(times[order], values.reshape(len(times), -1)[order].astype(np.float32))

    @cached_property
    def _signals(self) -> dict[str, Signal | None]:
        return {}

    def _every_window(self, offsets: tuple[int, ...], late_ns: int, match: Match) -> Window | None:
        """Return the windows of every step, [T, K], once an episode is read often enough that resolving them together pays."""
        key = (offsets, late_ns, match)
        asked = self._asked.get(key, 0)
        if asked < READ_OFTEN:
            self._asked[key] = asked + 1 if len(self.t_ns) * len(offsets) <= WINDOW_ENTRIES else -1 << 62
            return None
        return _windows_of(self._clock, self.period_ns, offsets, late_ns, match)

    @cached_property
    def _clock(self) -> bytes:
        """The times of the steps, from the first on: what windows depend on."""
        return (self.t_ns - self.t_ns[0]).tobytes()

    @cached_property
    def shots(self) -> dict[Any, Any]:
        """What decodes this episode's cameras, kept by `pipelines.loader.pictures`."""
        return {}

    @cached_property
    def _asked(self) -> dict[Any, int]:
        """Per offsets, latency and rule: how often a window was asked for; far below zero where a table would be too large."""
        return {}

    @cached_property
    def _texts(self) -> dict[str, "_Texts"]:
        return {}

    def pictures(self, camera: str, frames: npt.NDArray[np.int32], *, masks: bool) -> npt.NDArray[Any]:
        """Decode frames to uint8[n, H, W, 3], or masks to int32[n, H, W, 1]."""
        if masks:
            return self.shard.read_masks(self.episode_id, camera, frames).astype(np.int32)[..., None]
        return self.shard.read(self.episode_id, camera, frames)


class _Texts:
    """A string column as codes, whose texts are looked up once each."""

    __slots__ = ("_codes", "_known", "_names")

    def __init__(self, codes: npt.NDArray[Any], names: pa.Array) -> None:
        self._codes, self._names = codes, names
        self._known: dict[int, str] = {-1: ""}

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Texts":
        whole = column.combine_chunks()
        encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
        return cls(encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary)

    def at(self, step: int) -> str:
        code = int(self._codes[step])
        text = self._known.get(code)
        if text is None:
            text = self._known[code] = self._names[code].as_py() or ""
        return text


@lru_cache(maxsize=WINDOW_TABLES)
def _windows_of(clock: bytes, hold_ns: int, offsets: tuple[int, ...], late_ns: int, match: Match) -> Window:
    """Return the window of every step of a clock, [T, K]: the same table for all episodes that keep the same time."""
    t_ns = np.frombuffer(clock, np.int64)
    return delayed_window(t_ns, np.arange(len(t_ns)), offsets, hold_ns=hold_ns, match=match, late_ns=late_ns)


@lru_cache(maxsize=OPEN_EPISODES)
def episode_view(lake: Lake, dataset: str, shard: str, episode_id: str) -> EpisodeView:
    """Return the episode, mapped once per process."""
    return EpisodeView(open_shard(lake, dataset, shard), episode_id)
