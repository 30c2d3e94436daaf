"""Holds an annotator to its contract: what it returns is checked before anything is written."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotators.base import Annotator, Batch
from annotators.spans import episodes_of
from schemas.annotation import annotation_schema
from schemas.errors import AnnotatorError
from transforms.grid import BOOL, I64


def check_output(annotator: Annotator, batch: Batch, rows: pa.Table) -> pa.Table:
    """Return `rows` unchanged if they keep the contract.

    Raises:
        AnnotatorError: other columns or types; ids added, lost or out of order; a span outside its episode or off its clock; a step
            no row covers; a valid row with a reason or a non-finite number, an invalid one without a reason; another fingerprint.
    """
    _schema(annotator, rows)
    episode = _episodes(annotator, batch, rows)
    _spans(annotator, batch, rows, episode)
    _flags(annotator, rows)
    _numbers(annotator, rows)
    if annotator.covers == "steps":
        missing = np.flatnonzero(~covered(batch, rows, episode))
        if len(missing):
            at = int(np.searchsorted(batch.starts, missing[0], side="right")) - 1
            step = int(missing[0] - batch.starts[at])
            raise _broken(
                annotator,
                f"{len(missing)} of {batch.steps.num_rows} steps are in no row, the first is step {step}",
                batch.episodes[at],
            )
    return rows


def covered(batch: Batch, rows: pa.Table, episode: I64 | None = None) -> BOOL:
    """Return bool[T]: which steps of the batch lie in at least one of `rows`."""
    if episode is None:
        episode = episodes_of(rows, batch)
    edge = np.zeros(batch.steps.num_rows + 1, np.int64)
    first = batch.starts[episode]
    np.add.at(edge, first + rows.column("start_step").to_numpy(), 1)
    np.add.at(edge, first + rows.column("end_step").to_numpy(), -1)
    return np.cumsum(edge)[:-1] > 0


def _schema(annotator: Annotator, rows: pa.Table) -> None:
    wanted = annotation_schema(annotator.provides)
    if rows.schema.names != wanted.names:
        odd = sorted(set(rows.schema.names) ^ set(wanted.names)) or "in another order"
        raise _broken(annotator, f"its columns differ from its schema: {odd}")
    for field in wanted:
        have = rows.schema.field(field.name).type
        if have != field.type:
            raise _broken(annotator, f"column {field.name} is {have}, its schema says {field.type}")
        if not field.nullable and rows.column(field.name).null_count:
            raise _broken(annotator, f"column {field.name} holds nulls")


def _episodes(annotator: Annotator, batch: Batch, rows: pa.Table) -> I64:
    """Return the position in the batch of each row's episode."""
    place = {name: at for at, name in enumerate(batch.episodes)}
    column = pc.unique(rows.column("episode_id")).cast(pa.string()).to_pylist()
    if strangers := [e for e in column if e not in place]:
        raise _broken(annotator, f"it returned episodes it was not given: {strangers[:3]}")
    if lost := [e for e in batch.episodes if e not in set(column)]:
        raise _broken(annotator, f"it lost {len(lost)} of {len(place)} episodes: {lost[:3]}", lost[0])
    names = rows.column("episode_id").combine_chunks()
    order = np.array([place.get(n, -1) for n in names.dictionary.to_pylist()], np.int64)[names.indices.to_numpy()]
    if bool((np.diff(order) < 0).any()):
        raise _broken(annotator, "its rows are not grouped by episode in input order")
    return order


def _spans(annotator: Annotator, batch: Batch, rows: pa.Table, episode: I64) -> None:
    start, end = rows.column("start_step").to_numpy(), rows.column("end_step").to_numpy()
    begin_ns, end_ns = rows.column("start_ns").to_numpy(), rows.column("end_ns").to_numpy()
    length = np.diff(batch.starts)[episode]
    bad = (start < 0) | (end <= start) | (end > length)
    if bad.any():
        at = int(np.argmax(bad))
        raise _broken(
            annotator, f"row {at} spans steps {start[at]}..{end[at]} of an episode of {length[at]}", batch.episodes[episode[at]]
        )
    first = batch.t_ns[batch.starts[episode]]
    off = (begin_ns >= end_ns) | (begin_ns < first) | (end_ns > batch.end_ns[episode])
    off |= np.abs(begin_ns - batch.t_ns[batch.starts[episode] + start]) > _period(batch)[episode]
    if off.any():
        at = int(np.argmax(off))
        raise _broken(
            annotator, f"row {at} spans {begin_ns[at]}..{end_ns[at]} ns, which is not where step {start[at]} is on the episode clock",
            batch.episodes[episode[at]],
        )  # fmt: skip
    same = np.diff(episode) == 0
    if bool((np.diff(begin_ns)[same] < 0).any()):
        raise _broken(annotator, "its rows are not sorted by start inside an episode")


def _period(batch: Batch) -> I64:
    return batch.end_ns - batch.t_ns[batch.starts[1:] - 1]


def _flags(annotator: Annotator, rows: pa.Table) -> None:
    valid, reason = rows.column("valid").to_numpy(), rows.column("reason").is_valid().to_numpy()
    if bool((valid & reason).any()):
        raise _broken(annotator, f"row {int(np.argmax(valid & reason))} is valid and has a reason not to be")
    if bool((~valid & ~reason).any()):
        raise _broken(annotator, f"row {int(np.argmax(~valid & ~reason))} is invalid without a reason")
    prints = pc.unique(rows.column("annotator_fp")).cast(pa.string()).to_pylist()
    if rows.num_rows and prints != [annotator.fingerprint()]:
        raise _broken(annotator, f"its rows carry the fingerprint {prints[0]}, its own is {annotator.fingerprint()}")


def _numbers(annotator: Annotator, rows: pa.Table) -> None:
    """Every number of a valid row is finite; a null says *none*, a NaN says nothing."""
    usable = rows.filter(rows.column("valid"))
    for field in usable.schema:
        column = usable.column(field.name)
        while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
            column = pc.list_flatten(column)
        if pa.types.is_floating(column.type) and not bool(pc.all(pc.is_finite(column)).as_py() in (True, None)):
            raise _broken(annotator, f"column {field.name} of a valid row is not finite; give a reason and valid = false instead")
    level = usable.column("confidence").drop_null().to_numpy()
    if len(level) and (level.min() < 0 or level.max() > 1):
        raise _broken(annotator, f"confidence {level.min():g}..{level.max():g} leaves 0..1")


def _broken(annotator: Annotator, what: str, episode: str = "") -> AnnotatorError:
    where = f" (episode {episode})" if episode else ""
    return AnnotatorError(f"annotator {annotator.name} {annotator.version} broke its contract: {what}{where}", episode=episode)
