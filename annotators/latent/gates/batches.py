"""From a batch of episodes and an annotator of latents to evidence, and from there to its reports: what `evaluate` of such annotators does.

An annotator of latents writes rows with `z`, `horizon_s`, `t0_ns`, `t1_ns` and, where latents are discrete, `code`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.base import Annotator, Batch
from annotators.evaluation import QualityReport, not_measurable
from annotators.latent.flow.flow_latent import FlowLatent, FlowLatentConfig
from annotators.latent.gates.actions import GOAL, judge
from annotators.latent.gates.evidence import F32, Evidence
from annotators.latent.gates.pictures import picture_features
from annotators.latent.gates.truth import interval_motion, proprioception
from annotators.spans import episodes_of
from transforms.grid import I64

METRICS = ("action_r2_linear", "action_r2_network")
type Features = Callable[[npt.NDArray[np.uint8]], F32]


def evaluate_latents(
    annotator: Annotator,
    batch: Batch,
    untrained: Annotator | None = None,
    features: Features = picture_features,
    *,
    network: bool = True,
) -> tuple[QualityReport, ...]:
    """Run every gate that needs arrays only, per camera and horizon.

    Args:
        annotator: whose latents are judged.
        batch: episodes with pictures; what the agent did is read from their steps.
        untrained: the same annotator before training; None where nothing is trained.
        features: of pictures uint8[n, H, W, 3], float32[n, f]: the model's own, frozen, or plain ones.
        network: whether to run the nonlinear probes too.
    """
    rows = _valid(annotator.run(batch))
    if not rows.num_rows:
        return tuple(not_measurable(m, "no valid latent", GOAL) for m in METRICS)
    twin = None if untrained is None else _valid(untrained.run(batch))
    reports: list[QualityReport] = []
    kinds = sorted({*zip(_strings(rows, "camera"), rows.column("horizon_s").to_pylist(), strict=True)})
    for camera, horizon in kinds:
        found = gather(annotator, batch, rows, camera, horizon, twin, features)
        marks = {"camera": camera, "horizon_s": round(float(horizon), 4)}
        if isinstance(found, str):
            reports += [replace(not_measurable(m, found, GOAL), detail=marks) for m in METRICS]
        else:
            reports += [replace(r, detail={**marks, **r.detail}) for r in judge(found, network=network)]
    return tuple(reports) if len(kinds) == 1 else tuple(_named(r, len({c for c, _ in kinds}) > 1) for r in reports)


def gather(
    annotator: Annotator, batch: Batch, rows: pa.Table, camera: str, horizon: float, twin: pa.Table | None = None,
    features: Features = picture_features,
) -> Evidence | str:  # fmt: skip
    """Return the evidence about the latents of one camera and horizon, or why there is none.

    Args:
        annotator: who wrote the rows.
        batch: what they are about, its clips included.
        rows: valid rows of the annotator.
        camera: which.
        horizon: `horizon_s` of the rows.
        twin: rows of the untrained model over the same pairs.
        features: of pictures.
    """
    rows = _of(rows, camera, horizon)
    episode = episodes_of(rows, batch)
    first = batch.starts[episode] + rows.column("start_step").to_numpy()
    last = np.minimum(batch.starts[episode] + rows.column("end_step").to_numpy(), batch.starts[episode + 1] - 1)
    truth = interval_motion(batch, first, last)
    if isinstance(truth, str):
        return truth
    seen = [_pictures(batch, camera, episode, rows.column(name).to_numpy()) for name in ("t0_ns", "t1_ns")]
    state = proprioception(batch)
    code = _codes(rows)
    whole = Evidence(
        _matrix(rows), truth.action, episode, batch.groups or batch.episodes, truth.names, truth.told_by, features(seen[0]),
        features(seen[1]), None if state is None else state[first],
        None if annotator.name == FlowLatent.name else _matrix(_flow(batch, camera, horizon, rows)),
        None if twin is None else _matrix(_of(twin, camera, horizon)), code, 0 if code is None else int(code.max()) + 1,
        first, last, {"valid_share": float(truth.usable.mean())},
    )  # fmt: skip
    return whole.take(truth.usable)


def _flow(batch: Batch, camera: str, horizon: float, rows: pa.Table) -> pa.Table:
    """Return `flow_latent` rows of exactly the pairs that `rows` are about."""
    flow = FlowLatent(FlowLatentConfig((camera,), horizons_s=(float(horizon),), hz=1e3))
    found = _valid(flow.run(batch))
    key = {k: n for n, k in enumerate(_keys(found))}
    return found.take(pa.array([key[k] for k in _keys(rows)], pa.int64()))


def _keys(rows: pa.Table) -> list[tuple[str, int, int]]:
    return list(
        zip(_strings(rows, "episode_id"), rows.column("t0_ns").to_pylist(), rows.column("t1_ns").to_pylist(), strict=True)
    )


def _pictures(batch: Batch, camera: str, episode: I64, t_ns: I64) -> npt.NDArray[np.uint8]:
    """Return the pictures shown at these times, uint8[n, H, W, 3]."""
    clips = batch.clips[camera]
    return np.stack([clips[e].pictures[np.searchsorted(clips[e].t_ns, t)] for e, t in zip(episode, t_ns, strict=True)])


def _of(rows: pa.Table, camera: str, horizon: float) -> pa.Table:
    same = np.array(_strings(rows, "camera")) == camera
    return rows.filter(pa.array(same & np.isclose(rows.column("horizon_s").to_numpy(), horizon, atol=1e-6)))


def _valid(rows: pa.Table) -> pa.Table:
    return rows.filter(rows.column("valid"))


def _matrix(rows: pa.Table) -> F32:
    return np.array(rows.column("z").to_pylist(), np.float32).reshape(rows.num_rows, -1)


def _codes(rows: pa.Table) -> I64 | None:
    """Return one number per row for the codes of discrete latents, int64[n]: the rows' distinct code words, counted through."""
    if "code" not in rows.column_names or rows.column("code").null_count:
        return None
    words = np.array(rows.column("code").to_pylist(), np.int64).reshape(rows.num_rows, -1)
    if not words.size or words.min() < 0:
        return None
    return np.unique(words, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _strings(rows: pa.Table, column: str) -> list[str]:
    return rows.column(column).cast(pa.string()).to_pylist()


def _named(report: QualityReport, cameras: bool) -> QualityReport:
    """Tell reports of several cameras and horizons apart by their metric."""
    where = f"{report.detail['camera']}@" if cameras else "@"
    return replace(report, metric=f"{report.metric}.{where}{report.detail['horizon_s']:g}s")
