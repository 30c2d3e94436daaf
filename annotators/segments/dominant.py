"""Which degree of freedom dominates a segment, by the simulator's raw state: total variation per second, no grid and no filter."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.motion.read import read_slots
from annotators.motion.source import find_source
from transforms.grid import I64
from transforms.rotation import F64, as_quat, conjugate, log, multiply

if TYPE_CHECKING:
    from annotators.segments.segments import Segments


def dominant_skills(annotator: "Segments", batch: Batch) -> tuple[I64, I64, I64] | str:
    """Return, for every moving segment of the first arm, its largest energy, the true one, and its episode; or why that cannot be."""
    source = find_source(batch.contract)
    if batch.contract.kind != "sim":
        return "labels and proprioception are the same signal; only a simulator knows better"
    if source is None or len(source.arms) != 1 or source.arms[0].position.representation != "absolute":
        return "needs one arm told in absolute poses"
    arm, (values, _, _) = source.arms[0], read_slots(batch, source)
    seconds = np.diff(batch.t_ns) * 1e-9
    moved = np.linalg.norm(np.diff(values[arm.position], axis=1), axis=0)
    turned, gripped = np.zeros_like(moved), np.zeros_like(moved)
    if arm.rotation is not None and arm.rotation.rotation is not None:
        q = as_quat(values[arm.rotation], arm.rotation.rotation)
        turned = np.linalg.norm(log(multiply(conjugate(q[:, :-1]), q[:, 1:])), axis=0)
    if arm.gripper is not None:
        gripped = np.abs(np.diff(values[arm.gripper].mean(0)))
    return _compare(annotator, batch, np.stack([moved, turned, gripped]), seconds)


def _compare(annotator: "Segments", batch: Batch, change: F64, seconds: F64) -> tuple[I64, I64, I64] | str:
    rows = annotator.run(batch)
    rows = rows.filter(rows.column("valid"))
    place = {name: at for at, name in enumerate(batch.episodes)}
    mine: list[int] = []
    true: list[int] = []
    episode: list[int] = []
    columns = zip(
        rows.column("episode_id").cast(pa.string()).to_pylist(), rows.column("start_step").to_pylist(),
        rows.column("end_step").to_pylist(), rows.column("energies").to_pylist(), rows.column("phase").to_pylist(), strict=True,
    )  # fmt: skip
    for name, first, stop, energies, phase in columns:
        a, b = batch.starts[place[name]] + first, batch.starts[place[name]] + stop - 1
        if b <= a or phase == "idle":
            continue
        speed = change[:, a:b].sum(1) / seconds[a:b].sum() / np.array(annotator.config.scale)
        mine.append(int(np.argmax(energies)))
        true.append(int(np.argmax(speed)))
        episode.append(place[name])
    return (np.array(mine), np.array(true), np.array(episode)) if mine else "nothing moves"
