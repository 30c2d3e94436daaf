"""One step of one episode becomes a sample: plain numpy arrays and strings under LeRobot's names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog.lake import Lake
from pipelines.loader.annotated import Annotated
from pipelines.loader.cached import CachedRows
from pipelines.loader.episode import EpisodeView, episode_view
from pipelines.loader.fields import OBSERVATION, Field
from pipelines.loader.goals import Elsewhere, draw_aim, entries_of, next_window, numbers, td_chunk
from pipelines.loader.pictures import Pictures, Shots, fit
from pipelines.loader.pool import Pool
from pipelines.loader.ring import Block, BlockRing, Blocks
from pipelines.mixture.index import IndexRow
from schemas.goals import GoalSpec, TdSpec
from schemas.mixture import DropoutSpec, Match
from transforms.dropout import dropped, without_past
from transforms.windows import SECOND, Window, fill_edges

type Sample = dict[str, Any]
type Targets = Mapping[str, npt.NDArray[Any]] | None  # [H, W, 3] or [K, H, W, 3], the way decoders write


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Reads samples.

    A field is absent from a sample where its episode has nothing to show: its dataset does not declare it, or the camera saw no
    frame. Inside a window, such an entry is zero and `<key>_is_pad` is true.

    Attributes:
        lake: where the shards are.
        fields: per dataset, what a sample holds.
        match: which step an instant means, see `transforms.windows.window`.
        image_size: (height, width) every picture is fitted into, keeping its aspect, with black borders; None: as stored.
        fast: decode JPEG with libjpeg-turbo's fast transforms, a minor loss of quality.
        goal: what goals samples show.
        td: what chunks of temporal-difference learning they show.
        dropout: what some of them do without.
        annotated: what annotators said, where it is asked for.
        cached: what teachers know, where it is asked for.
        groups: per dataset, its fields by what they look at, so that a window is resolved once for all of them.
        pictures: decodes them.
    """

    lake: Lake
    fields: Mapping[str, tuple[Field, ...]]
    match: Match = "nearest"
    image_size: tuple[int, int] | None = None
    fast: bool = True
    goal: GoalSpec | None = None
    td: TdSpec | None = None
    dropout: DropoutSpec | None = None
    annotated: Annotated | None = None
    cached: tuple[CachedRows, ...] = ()
    groups: Mapping[str, tuple[tuple[Field, ...], ...]] = dataclass_field(init=False)
    pictures: Pictures = dataclass_field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", Pictures(self.image_size, self.fast, self.match))
        object.__setattr__(self, "groups", {name: _grouped(fields) for name, fields in self.fields.items()})

    def read(
        self,
        row: IndexRow,
        step: int,
        into: Targets = None,
        blocks: Blocks | None = None,
        draw: int = 0,
        elsewhere: Elsewhere | None = None,
    ) -> Sample:
        """Return the sample anchored at `step` of an index row.

        Feature keys hold arrays [*shape] or, with a window, [K, *shape]; pictures are uint8 [3, H, W] or [K, 3, H, W], stored
        channels last; windows come with `<key>_is_pad` bool[K]. Besides them: `task`, `episode_id`, `dataset`, `source` (str),
        `frame_index` (int, step in the episode) and `timestamp` (float, seconds on the episode clock).

        Args:
            row: the episode.
            step: of the episode.
            into: per key, where its pictures may be decoded to, channels last; used, and itself returned, where the shape is right.
            blocks: pictures that this sample shares with others, as `blocks` returns them for its span.
            draw: number of the draw; with the episode and the step it seeds what a sample draws at random.
            elsewhere: finds goals in other episodes; needed only where the spec asks for them.
        """
        view = episode_view(self.lake, row.dataset, row.shard, row.episode_id)
        step += row.first_row - view.first_row  # above 0 where the row leaves out steps whose window would leave the episode
        sample: Sample = {
            "task": view.text("language", step), "episode_id": row.episode_id, "dataset": row.dataset, "source": row.source,
            "frame_index": step, "timestamp": float(view.t_ns[step]) / SECOND,
        }  # fmt: skip
        for group in self.groups[row.dataset]:
            if group[0].at == "stream":
                _signal(sample, view, group, step)
            if group[0].at != "step":
                continue
            found = view.look(group[0], step, self.match, draw)
            for field in group:
                self._field(sample, view, field, found, step, into, blocks)
        if self.annotated is not None:
            sample |= self.annotated.of(row.episode_id, step)
        for rows in self.cached:
            sample |= rows.of(row.episode_id, step, draw)
        gone = dropped(self.dropout, row.episode_id, step, draw) if self.dropout is not None else {}
        if self.goal is not None or self.td is not None:
            self._towards(sample, view, row.dataset, step, into, draw, elsewhere, seen=not gone.get("goal", False))
        return self._without(sample, row.dataset, gone, into) if gone else sample

    def _without(self, sample: Sample, dataset: str, gone: Mapping[str, bool], into: Targets) -> Sample:
        """Take out what the sample does without, and say so."""
        if gone.get("language"):
            sample["task"] = ""
        for field in self.fields[dataset] if gone.get("history") else ():
            if field.at != "step" or not field.key.startswith(OBSERVATION) or field.offsets_ns is None or field.key not in sample:
                continue
            mask = f"{field.key}_is_pad"
            values, sample[mask] = without_past(sample[field.key], sample[mask], field.offsets_ns)
            target = into.get(field.key) if into else None
            if target is not None and sample[field.key] is target:
                target[:] = values
            else:
                sample[field.key] = values
        return sample | {f"dropped.{name}": np.asarray(value) for name, value in gone.items()}

    def _field(
        self, sample: Sample, view: EpisodeView, field: Field, found: Window, step: int, into: Targets, blocks: Blocks | None
    ) -> None:
        if field.kind == "picture":
            target, block = into.get(field.key) if into else None, blocks.get(field.key) if blocks else None
            self._pictures(sample, view, field, found, target, block)
        elif field.kind in ("annotation", "drawn"):
            return  # joined by `read` itself, or by whoever knows the draw
        elif field.dtype == "string":
            sample[field.key] = view.text(field.name, step)
        elif field.kind == "feature":
            self._feature(sample, view, field, found)
        elif field.kind == "staleness":
            _emit_values(sample, field, (found.staleness_ns / SECOND).astype(np.float32), found.is_pad)
        elif field.kind == "masks":
            self._masks(sample, view, field, found)

    def _towards(
        self,
        sample: Sample,
        view: EpisodeView,
        dataset: str,
        step: int,
        into: Targets,
        draw: int,
        elsewhere: Elsewhere | None,
        *,
        seen: bool,
    ) -> None:
        """Add the goal, where it is to be seen, and the chunk of temporal-difference learning towards it."""
        aim = None
        if self.goal is not None:
            aim = draw_aim(self.goal, view, dataset, step, draw, elsewhere or partial(_stay, view, dataset, step))
            for field in (f for group in self.groups[aim.dataset] if seen and group[0].at == "goal" for f in group):
                found = aim.window(step, entries_of(field), self.goal.distal)
                self._field(sample, aim.view, field, found, aim.step, into, None)
        chunk = td_chunk(self.td, view, step, aim) if self.td is not None else None
        if chunk is not None:
            found = next_window(step, chunk)
            for field in (f for group in self.groups[dataset] if group[0].at == "next" for f in group):
                self._field(sample, view, field, found, step, into, None)
        sample |= {k: v for k, v in numbers(view, step, aim, chunk).items() if seen or not k.startswith("goal.")}

    def blocks(self, row: IndexRow, first: int, stop: int, ring: BlockRing, pool: Pool, *, once: bool) -> Blocks:
        """Return the blocks of every picture that samples anchored in a span can show.

        Args:
            row: of the index.
            first: first step of the span, counted from the row's first.
            stop: first step after it.
            ring: shared by every thread.
            pool: memory for pictures.
            once: whether every step is drawn once.
        """
        view = episode_view(self.lake, row.dataset, row.shard, row.episode_id)
        cut = row.first_row - view.first_row
        cameras = [f for f in self.fields[row.dataset] if f.kind == "picture" and f.at == "step"]
        return {f.key: self.pictures.block(view, f, (first + cut, stop + cut), ring, pool, once=once) for f in cameras}

    def _feature(self, sample: Sample, view: EpisodeView, field: Field, found: Window) -> None:
        rows, is_pad = found.rows, found.is_pad
        padded_end = field.is_action and not view.shard.contract.last_action_valid
        if padded_end:
            last = len(view.t_ns) - 1
            is_pad = is_pad | (rows == last)
            rows = np.minimum(rows, max(last - 1, 0))
        values = fill_edges(view.feature(field.name)[rows], is_pad, field.edge, field.relative)
        _emit_values(sample, field, values, is_pad, told=padded_end)

    def _masks(self, sample: Sample, view: EpisodeView, field: Field, found: Window) -> None:
        frames = view.frames(field.name)[found.rows]
        seen = _shown(frames, found.is_pad, field)
        if not seen.any():
            return
        images = view.pictures(field.name, frames[seen], masks=True)
        if self.image_size is not None:
            images = np.stack([fit(image, self.image_size) for image in images])
        whole = np.zeros((len(seen), *images.shape[1:]), images.dtype)
        whole[seen] = images
        _emit(sample, field, whole, found.is_pad | ~seen)

    def _pictures(
        self, sample: Sample, view: EpisodeView, field: Field, found: Window, into: npt.NDArray[Any] | None, block: Block | None
    ) -> None:
        """Decode to `into`, where it has the right shape, else to memory of the sample's own."""
        shots, is_pad = self.pictures.shots(view, field.name), found.is_pad
        rows = view.frames(field.name)[found.rows]
        frames: list[int] = rows.tolist()
        whole_window = field.edge != "mask" and min(frames) >= 0
        seen = is_pad if whole_window else _shown(rows, is_pad, field)
        if not whole_window and not seen.any():
            return
        shape = (len(frames), *shots.shape)
        target = into if into is None or field.offsets_ns is not None else into[None]
        fits = target is not None and target.shape == shape
        whole = target if target is not None and fits else np.empty(shape, np.uint8)
        if whole_window:
            _decode(shots, frames, whole, block)
        else:
            images = np.empty((int(seen.sum()), *shape[1:]), np.uint8)
            _decode(shots, rows[seen].tolist(), images, block)
            whole[seen], whole[~seen] = images, 0
            is_pad = is_pad | ~seen
        if fits:
            _emit_values(sample, field, whole, is_pad)
            sample[field.key] = into
        else:
            _emit(sample, field, whole, is_pad)


def _decode(shots: Shots, frames: Sequence[int], out: npt.NDArray[Any], block: Block | None) -> None:
    if block is None:
        shots.decode(frames, list(out))
    else:
        block.copy(frames, out)


def _signal(sample: Sample, view: EpisodeView, group: Sequence[Field], step: int) -> None:
    """Add the window over one stream; entries that are padding are zero, because the value that fills an edge may be one of the future."""
    signal = view.signal(group[0].name)
    if signal is None:
        return
    found = view.look_at(group[0], signal, step)
    for field in group:
        stale = field.kind == "staleness"
        values = (found.staleness_ns / SECOND).astype(np.float32) if stale else signal.values[found.rows]
        values[found.is_pad] = 0
        _emit_values(sample, field, values, found.is_pad)


def _stay(view: EpisodeView, dataset: str, step: int, _: float) -> tuple[EpisodeView, str, int]:
    """Stand in for another episode where a reader is used by itself."""
    return view, dataset, step


def _grouped(fields: tuple[Field, ...]) -> tuple[tuple[Field, ...], ...]:
    groups: dict[Any, list[Field]] = {}
    for one in fields:
        stream = one.name if one.at == "stream" else ""
        groups.setdefault((one.at, one.offsets_ns, one.latency_ns, one.delay_ns, stream), []).append(one)
    return tuple(map(tuple, groups.values()))


def _emit(sample: Sample, field: Field, images: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_]) -> None:
    _emit_values(sample, field, images.transpose(0, 3, 1, 2), is_pad)


def _emit_values(
    sample: Sample, field: Field, values: npt.NDArray[Any], is_pad: npt.NDArray[np.bool_], *, told: bool = False
) -> None:
    """Put the K values of a window, or the single one without a time axis; its padding where it can be padding."""
    windowed = field.offsets_ns is not None
    sample[field.key] = values if windowed else np.asarray(values[0])  # a scalar feature stays an array
    if windowed or told or field.is_late:
        sample[f"{field.key}_is_pad"] = is_pad if windowed else is_pad[0]


def _shown(frames: npt.NDArray[np.int32], is_pad: npt.NDArray[np.bool_], field: Field) -> npt.NDArray[np.bool_]:
    return (frames >= 0) & ~is_pad if field.edge == "mask" else frames >= 0
