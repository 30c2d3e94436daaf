"""Annotators of pictures for tests: one reads the number burnt into every toy picture, so that a picture in the wrong place is seen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotators.base import Batch, fingerprint
from annotators.clips import Look, Needs
from annotators.evaluation import QualityReport, not_measurable
from annotators.spans import span_table
from schemas.contract import Contract
from tests.support.video import read_barcode

BREACHES = ("ids", "length", "nan", "fingerprint", "falls")


@dataclass(frozen=True)
class Numbers:
    """Says for every step which number the picture it sees carries.

    `breaks` names a breach of the contract; with `room`, memory runs out above that many pictures in a call, or at once.
    """

    camera: str = "front"
    size: tuple[int, int] | None = None
    hz: float | None = None
    breaks: str = ""
    room: int = 10**9
    label: str = "numbers"

    version: ClassVar[str] = "1"
    covers: ClassVar[str] = "steps"
    provides: ClassVar[pa.Schema] = pa.schema([pa.field("number", pa.float32())])

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.label

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "room"}

    def fingerprint(self) -> str:
        return fingerprint(self.name, self.version, self.settings())

    def requires(self, contract: Contract) -> tuple[str, ...]:
        return tuple(f"rgb:{look.camera}" for look in self.needs(contract).looks)

    def needs(self, contract: Contract) -> Needs:
        known = self.camera in {c.name for c in contract.cameras}
        return Needs((Look(self.camera, self.size, self.hz),) if known else (), context_s=0.0)

    def run(self, batch: Batch) -> pa.Table:
        clips = batch.clips[self.camera]
        if self.breaks == "falls":
            raise RuntimeError("out of luck")
        if sum(map(len, clips)) > self.room and batch.at_once > self.room:
            raise MemoryError
        told = [np.array([read_barcode(p) for p in clip.pictures] + [np.nan])[clip.seen] for clip in clips]
        values = np.concatenate(told)
        rows, reasons = np.arange(batch.steps.num_rows), [None if np.isfinite(v) else "no_picture" for v in values]
        own = pa.array(values.astype(np.float32), mask=~np.isfinite(values))
        table = span_table(self, batch, rows, rows + 1, reasons, {"number": own})  # type: ignore[arg-type]
        return _broken(table, self.breaks)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        return (not_measurable("right", f"{len(heldout.clips[self.camera])} clips, no truth"),)


def _broken(rows: pa.Table, how: str) -> pa.Table:
    def put(name: str, values: pa.Array) -> pa.Table:
        at = rows.schema.get_field_index(name)
        return rows.set_column(at, rows.schema.field(at), values)

    if how == "ids":
        return put("episode_id", pa.array(["ep-of-somebody-else"] * rows.num_rows).dictionary_encode())
    if how == "length":
        return rows.slice(0, rows.num_rows - 1)
    if how == "nan":
        return put("number", pc.multiply(rows.column("number"), pa.scalar(float("nan"), pa.float32())).combine_chunks())
    if how == "fingerprint":
        return put("annotator_fp", pa.array(["fp-of-somebody-else"] * rows.num_rows).dictionary_encode())
    return rows
