"""What an annotator is: steps in, with pictures and signals if it asks for them, spans out, episode ids unchanged.

It never sees the catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotators.clips import Clip
from annotators.evaluation import QualityReport
from schemas.contract import Camera, Contract
from schemas.errors import ContractError, UsageError
from schemas.ids import digest, short_id
from transforms.grid import BOOL, I64
from transforms.splits import held_out

Covers = Literal["steps", "episodes"]
Grain = Literal["frame", "pair", "window", "segment", "episode"]
Part = Literal["val", "test"]
AT_ONCE = 64  # pictures a model is given at once, until the memory says otherwise


@dataclass(frozen=True)
class Batch:
    """Whole episodes of one dataset, laid end to end. `steps` follows `schemas.shards.steps_schema(contract)`.

    Attributes:
        contract: of the dataset; its cameras hold the calibration (`Clip.intrinsics` scales it to the clip's pixels).
        steps: every step; texts are in its column `language`.
        clips: per camera asked for, one clip per episode.
        streams: irregular signals of these episodes that were asked for, `schemas.shards.STREAMS`; None where none were.
        groups: per episode what it must share a split with (a scene, an operator); empty: every episode is its own group.
        device: where a model should run, as torch names it.
        at_once: how many pictures to give a model at once; smaller after the device ran out of memory.
    """

    contract: Contract
    steps: pa.Table
    clips: Mapping[str, tuple[Clip, ...]] = field(default_factory=dict[str, tuple[Clip, ...]])
    streams: pa.Table | None = None
    groups: tuple[str, ...] = ()
    device: str = "cpu"
    at_once: int = AT_ONCE

    @cached_property
    def starts(self) -> I64:
        """First row of each episode, int64[E + 1], then the number of rows."""
        column = self.steps.column("episode_id").combine_chunks()
        index = (column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)).indices.to_numpy()
        first = np.flatnonzero(np.concatenate([[True], index[1:] != index[:-1]])) if len(index) else np.empty(0, np.int64)
        return np.append(first, len(index)).astype(np.int64)

    @cached_property
    def episodes(self) -> tuple[str, ...]:
        """Episode ids in row order."""
        return tuple(self.steps.column("episode_id").take(pa.array(self.starts[:-1])).cast(pa.string()).to_pylist())

    @cached_property
    def t_ns(self) -> I64:
        """Step times, int64[T], nanoseconds on each episode's clock."""
        return self.steps.column("t_ns").to_numpy()

    @cached_property
    def end_ns(self) -> I64:
        """End of each episode, int64[E]: its last step plus its median step, as the catalog's `duration_s` has it."""
        return np.array([_end(self.t_ns[a:b]) for a, b in zip(self.starts, self.starts[1:], strict=False)], np.int64)

    def take(self, episodes: list[int]) -> "Batch":
        """Return the episodes at these positions, in this order."""
        rows = [np.arange(self.starts[e], self.starts[e + 1]) for e in episodes]
        steps = self.steps.take(pa.array(np.concatenate(rows) if rows else np.empty(0, np.int64)))
        clips = {camera: tuple(have[e] for e in episodes) for camera, have in self.clips.items()}
        groups = tuple(self.groups[e] for e in episodes) if self.groups else ()
        streams = self.streams
        if streams is not None:
            ids = pa.array([self.episodes[e] for e in episodes], pa.string())
            streams = streams.filter(pc.is_in(streams.column("episode_id").cast(pa.string()), ids))
        return Batch(self.contract, steps, clips, streams, groups, self.device, self.at_once)

    def part(self, part: Part) -> "Batch":
        """Return half of the episodes, chosen by the hash of their group: tune on `val`, report on `test`.

        An episode keeps its part whatever else is there, and a group is never split.
        """
        halves = in_test(self.groups or self.episodes)
        return self.take([e for e, is_test in enumerate(halves) if is_test == (part == "test")])

    def camera(self, name: str) -> Camera:
        """Return what the contract says of a camera, its calibration included.

        Raises:
            ContractError: no such camera is declared.
        """
        for camera in self.contract.cameras:
            if camera.name == name:
                return camera
        raise ContractError(
            f"{self.contract.dataset} declares no camera {name!r}; it has {[c.name for c in self.contract.cameras]}"
        )

    def stream(self, episode: str, name: str) -> pa.Table:
        """Return the samples of one signal of one episode, on the episode's clock.

        Raises:
            UsageError: the annotator did not ask for signals.
        """
        if self.streams is None:
            raise UsageError(f"stream {name!r} was not asked for; name it in `needs(contract).streams`")
        same = [pc.equal(self.streams.column(c).cast(pa.string()), v) for c, v in (("episode_id", episode), ("stream", name))]
        return self.streams.filter(pc.and_(*same))


class Annotator(Protocol):
    """One annotator. Instances are frozen dataclasses: cheap to build, comparable, and picklable, so that they travel to workers.

    Attributes:
        name: a slug; the folder and the catalog know it by this.
        version: raise it whenever the rows written for the same input and configuration change.
        provides: schema of its own columns, beside those of `schemas.annotation`.
        covers: whether its rows cover every step of every episode (valid or not), or at least name every episode.

    An annotator of pictures or signals also has `needs(contract)` (`annotators.clips.Watcher`). It may state `grain`, what one row
    is about; `tuned`, true where it fits thresholds or weights to the data it is evaluated on; `on_gpu`, true where it runs a model on
    `Batch.device`; and `evaluation`, to be raised when `evaluate` measures otherwise although the rows stay the same (see `grain_of`,
    `is_tuned`, `uses_gpu`, `evaluation_of`).
    """

    name: ClassVar[str]
    version: ClassVar[str]
    provides: ClassVar[pa.Schema]
    covers: ClassVar[Covers]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs or a TOML table; see `schemas.settings`."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        ...

    def fingerprint(self) -> str:
        """Identify everything the output depends on besides the input: name, version, configuration, weights."""
        ...

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name what it will read of such a dataset; empty if it can say nothing about it.

        Step columns by their name, the rest as `rgb:<camera>`, `depth:<camera>`, `mask:<camera>`, `K:<camera>`, `stream:<name>`.
        """
        ...

    def run(self, batch: Batch) -> pa.Table:
        """Annotate every episode of `batch`, each as if it were alone.

        Returns:
            Rows of `annotation_schema(self.provides)`, grouped by episode in input order and sorted by start. Where nothing can
            be said there is a row with `valid` false and a reason.

        Raises:
            DataError: the input breaks its contract.
        """
        ...

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure quality on `heldout`, with every baseline. What cannot be measured there is reported as such."""
        ...


def fingerprint(
    name: str, version: str, settings: Mapping[str, Any], weights: tuple[str, ...] = (), libraries: tuple[str, ...] = ()
) -> str:
    """Return the fingerprint of an annotator: BLAKE3 of everything its rows depend on besides the input.

    Args:
        name: of the annotator.
        version: of its code.
        settings: its configuration.
        weights: hashes of its weights, see `annotators.weights`.
        libraries: packages whose major version its numbers depend on (`torch`).
    """
    parts: list[object] = [name, version, dict(settings), sorted(weights)]
    if libraries:
        parts.append({library: _major(library) for library in libraries})
    return short_id("fp", parts)


def grain_of(annotator: Annotator) -> Grain:
    """Return what one row of an annotator is about; a segment where it does not say."""
    return getattr(annotator, "grain", "segment" if annotator.covers == "steps" else "episode")


def is_tuned(annotator: Annotator) -> bool:
    """Tell whether an annotator fits anything to the data, so that it is to be judged on the test half only."""
    return bool(getattr(annotator, "tuned", False))


def evaluation_of(annotator: Annotator) -> str:
    """Return the version of how an annotator measures itself: reports of another one are measured again."""
    return str(getattr(annotator, "evaluation", "1"))


def uses_gpu(annotator: Annotator) -> bool:
    """Tell whether an annotator runs a model that a GPU makes faster; the others are always given the CPU."""
    return bool(getattr(annotator, "on_gpu", False))


def in_test(groups: Sequence[str]) -> BOOL:
    """Tell for each episode, by its group, whether it is reported on rather than tuned on: bool[E], about half of the groups."""
    return held_out(groups, 0.5, "annotators")


def episodes_id(episodes: tuple[str, ...]) -> str:
    """Identify a set of episodes, whatever their order."""
    return short_id("set", [digest(e) for e in sorted(episodes)])


@lru_cache  # reading a package's metadata takes milliseconds, and every batch is checked against the fingerprint
def _major(library: str) -> str:
    try:
        return version(library).partition(".")[0]
    except PackageNotFoundError:
        return "none"


def _end(t_ns: I64) -> int:
    period = int(np.median(np.diff(t_ns))) if len(t_ns) > 1 else 1
    return int(t_ns[-1]) + max(period, 1)
