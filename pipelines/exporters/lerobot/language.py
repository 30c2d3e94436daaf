"""LeRobot's language columns: atoms and annotation rows into list<struct> per step, typed exactly as `lerobot.datasets.language`."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.exporters.lerobot.plan import language_style_column
from pipelines.sources.lerobot.info import LANGUAGE_COLUMNS
from pipelines.sources.lerobot.language import Atom
from schemas.annotation import LanguageRow, Question

PERSISTENT, EVENTS = LANGUAGE_COLUMNS
ROLE = "assistant"  # who says what an annotator found
ASKER = "user"
QUESTION = "vqa"  # one question per frame and camera
INTERJECTION = "interjection"  # a person's words
_BASE = [pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string()), pa.field("style", pa.string())]
_TIME = [pa.field("timestamp", pa.float32(), nullable=False)]
_TAIL = [pa.field("camera", pa.string()), pa.field("tool_calls", pa.list_(pa.json_()))]
_STRUCTS = {PERSISTENT: pa.struct([*_BASE, *_TIME, *_TAIL]), EVENTS: pa.struct([*_BASE, *_TAIL])}


def column_type(name: str) -> pa.DataType:
    """Return the Arrow type of language column `name`."""
    return pa.list_(_STRUCTS[name])


def atoms_for(
    name: str, kept: Sequence[Atom], rows: Sequence[LanguageRow], t_ns: npt.NDArray[np.int64], fps: int, cameras: dict[str, str]
) -> list[Atom]:
    """Join what the source said with what annotators say.

    Args:
        name: the column.
        kept: the source's own atoms; those of a style that `rows` brings anew give way.
        rows: annotations, sorted by start; each is put on the step nearest to its start.
        t_ns: int64[T], the steps' clock.
        fps: the grid, for timestamps.
        cameras: camera name to LeRobot key.

    Returns:
        Atoms in order; a persistent one covers the whole episode, as LeRobot expects. Questions that fall on one step and camera, on a
        coarse grid, go to the nearest free one.
    """
    mine = [r for r in rows if language_style_column(r.style) == name]
    fresh = {r.style for r in mine}
    atoms = [a for a in kept if a.body.get("style") not in fresh]
    count, taken = len(t_ns), set[tuple[int, str | None]]()
    for row in mine:
        step = _nearest(t_ns, row.start_ns)
        body: dict[str, Any] = {"role": ASKER if row.style == INTERJECTION else ROLE, "content": row.text, "style": row.style}
        if name == PERSISTENT:
            atoms.append(Atom(0, count, body | {"timestamp": float(np.float32(step / fps))}))
            continue
        if row.style == QUESTION:
            step = min(range(count), key=lambda s, at=step, c=row.camera: ((s, c) in taken, abs(s - at), s))
            taken.add((step, row.camera))
        body |= {"camera": cameras.get(row.camera or "", row.camera)}
        atoms += [Atom(step, step + 1, body | part) for part in _parts(row)]
    return atoms


def _parts(row: LanguageRow) -> list[dict[str, Any]]:
    """Return what is said, by whom: a question and its answer are two rows, the answer an object of a kind LeRobot knows."""
    asked = Question.from_json(row.text) if row.style == QUESTION else None
    if asked is None:
        return [{}]
    answer = {"label": asked.label, "attribute": asked.attribute, "value": asked.answer}
    return [{"role": ASKER, "content": asked.asked}, {"content": json.dumps(answer, sort_keys=True, ensure_ascii=False)}]


def language_array(name: str, atoms: Sequence[Atom], count: int) -> pa.Array:
    """Lay atoms out as one list<struct> per step, [count]. An atom over many steps is built once and taken many times."""
    spans = [np.arange(a.first, a.stop) for a in atoms]
    steps = np.concatenate(spans) if spans else np.empty(0, np.int64)
    owner = np.repeat(np.arange(len(atoms)), [len(s) for s in spans])
    order = np.lexsort((owner, steps))
    offsets = np.concatenate([[0], np.bincount(steps, minlength=count).cumsum()]).astype(np.int32)
    plain = _plain(_STRUCTS[name])
    values = pa.array([{f.name: a.body.get(f.name) for f in plain} for a in atoms], plain)
    taken = values.take(pa.array(owner[order], pa.int64()))
    return pa.ListArray.from_arrays(pa.array(offsets), taken).cast(column_type(name))


def _plain(kind: pa.StructType) -> pa.StructType:
    """Return the struct with JSON as text: arrays of the JSON type cannot be built from Python values."""
    return pa.struct([f if f.name != "tool_calls" else pa.field(f.name, pa.list_(pa.string())) for f in kind])


def _nearest(t_ns: npt.NDArray[np.int64], at: int) -> int:
    right = int(np.clip(np.searchsorted(t_ns, at), 1, max(len(t_ns) - 1, 1)))
    return right if right < len(t_ns) and t_ns[right] - at < at - t_ns[right - 1] else right - 1
