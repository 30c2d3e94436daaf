"""Every gate of latent actions, on a film whose actions are known and on a lake's recordings. Prints tables; makes no claims about speed.

    python -m benchmarks.latent_gates film [--quick] [--seeds 0,1,2] [--set key=value ...] [--distractor]
    python -m benchmarks.latent_gates lake LAKE DATASET CHECKPOINT [--hz 10] [--camera front]

`film` trains 600 steps (about 100 CPU s a seed) on 4 096 pairs of the moving square and measures on 1 024 others; `lake` measures a checkpoint on the half of a dataset's episodes
that training leaves out, beside `flow_latent`, with its controller and what it is worth with few labels.
"""

import argparse
import resource
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from annotators.evaluation import QualityReport
from pipelines.cli.options import key_values

STEPS, PAIRS, HELD = 600, 4096, 1024


def main() -> None:
    """Read the command line and run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    film = modes.add_parser("film")
    film.add_argument("--quick", action="store_true", help="one seed, a few steps: shows that it runs")
    film.add_argument("--seeds", default="0,1,2")
    film.add_argument("--distractor", action="store_true")
    film.add_argument("--labels", type=float, default=0.0, help="share of the pairs whose action is told in training")
    film.add_argument("--mask", action="store_true", help="tell training where the agent is")
    film.add_argument("--set", action="append", default=[])
    lake = modes.add_parser("lake")
    for name in ("lake", "dataset", "checkpoint"):
        lake.add_argument(name)
    lake.add_argument("--hz", type=float, default=10.0)
    lake.add_argument("--camera", default="")
    lake.add_argument(
        "--blocks", type=float, default=0.0, help="cut each recording into blocks of this many seconds: no held-out set"
    )
    options = parser.parse_args()
    if options.mode == "film":
        run_film(options)
    else:
        run_lake(options)


def run_film(options: Any) -> None:
    """Train one model per seed on the film, and judge it and its twins on another."""
    import torch

    from annotators.latent.config import Lam, LamConfig
    from annotators.latent.evaluation import Imagination
    from annotators.latent.gates.actions import judge
    from annotators.latent.gates.dreams import judge_dreams
    from annotators.latent.gates.probe import ridge_probe
    from annotators.latent.learn import fit
    from annotators.latent.model import build
    from tests.support.moving_square import evidence, pushes, scenes, square_flow, square_pool

    torch.set_num_threads(1)
    seeds = [0] if options.quick else [int(s) for s in options.seeds.split(",")]
    pairs, held = (256, 128) if options.quick else (PAIRS, HELD)
    settings = {"steps": 8 if options.quick else STEPS, "derive": 0, **key_values(options.set)}
    for seed in seeds:
        lam = Lam(LamConfig(side=32, horizons_s=(0.2,))).changed({"seed": seed, **settings})
        began = _cpu()
        pool = square_pool(pushes(pairs, 2, 100 + seed, options.distractor), labels=options.labels, mask=options.mask)
        model = fit(pool, lam)
        spent = _cpu() - began
        film = pushes(held, 2, 999, options.distractor)
        shown = scenes(film)
        mind, blank = Imagination(model, 0), Imagination(build(lam).eval(), 0)
        latent, before = (m.infer(shown.first, shown.second) for m in (mind, blank))
        found = evidence(film, latent, random=before, flow=square_flow(film))
        if lam.model.discrete:
            found = replace(found, code=_codes(model, shown), codes=lam.model.codes**lam.model.tokens)
        print(
            f"\nfilm seed {seed}: {settings} distractor={options.distractor} labels={options.labels}, {spent:.0f} CPU s of training"
        )
        table([*judge(found, network=seed == seeds[0]), *judge_dreams(mind, shown)])
        collapsed = replace(found, latent=np.zeros_like(found.latent))
        twins = {"shuffled": found.shuffled(), "copy_collapsed": collapsed, "random_init": replace(found, latent=before)}
        for name, twin in twins.items():
            print(f"  twin {name:15s} R2 {ridge_probe(twin.latent, twin.action, twin.episode, twin.names).r2:6.3f}")


def run_lake(options: Any) -> None:
    """Judge a checkpoint and `flow_latent` on the held-out half of a dataset."""
    import torch

    from annotators.latent.flow.flow_latent import FlowLatent, FlowLatentConfig
    from annotators.latent.latent_action import LatentAction
    from catalog.lake import Lake
    from pipelines.annotate.quality import EvaluateStage, measure

    torch.set_num_threads(1)
    settings = {"checkpoint": options.checkpoint, "hz": options.hz}
    cameras = tuple(c for c in options.camera.split(",") if c)
    own = LatentAction.from_settings({**settings, "cameras": list(cameras)})
    horizons = own.lam.model.horizons_s
    flow = FlowLatent(FlowLatentConfig(cameras, own.lam.model.side, options.hz, horizons))
    stage = EvaluateStage(Lake.at(options.lake), own, f"dataset:{options.dataset}", device="cpu")
    for unit in stage.plan():
        batch = stage.batch(unit)
        if options.blocks:
            _by_blocks(own, flow, batch, options.blocks, horizons[0])
            continue
        print(
            f"\n{options.dataset}: {len(batch.part('test').episodes)} of {len(batch.episodes)} episodes held out, horizons {horizons}"
        )
        table(measure(own, batch))
        print("flow_latent")
        table(flow.evaluate(batch.part("test")))
        _worth(own, batch, horizons[0])


def _by_blocks(own: Any, flow: Any, batch: Any, seconds: float, horizon: float) -> None:
    """Judge latents between blocks of recordings the model was trained on: neighbours look alike, so this shows what is there, not what carries over."""
    from annotators.latent.gates.actions import judge
    from annotators.latent.gates.batches import gather

    plain = replace(own, config=replace(own.config, least_gain=None, judge=False, camera_motion=False))
    for name, annotator, twin in (("latent_action", plain, replace(plain, trained=False)), ("flow_latent", flow, None)):
        rows, blank = annotator.run(batch), None if twin is None else twin.run(batch)
        valid = rows.column("valid")
        rows, blank = rows.filter(valid), None if blank is None else blank.filter(valid)
        found = gather(annotator, batch, rows, str(rows.column("camera")[0]), horizon, blank)
        if isinstance(found, str):
            print(f"  {found}")
            return
        at, end = found.start, found.stop
        length = int(seconds * 1e9)
        block = batch.t_ns[at] // length
        inside = block == batch.t_ns[np.maximum(end - 1, at)] // length  # intervals across a cut are left out
        keys = [f"{e}/{b}" for e, b in zip(found.episode[inside], block[inside], strict=True)]
        names = tuple(dict.fromkeys(keys))
        cut = replace(found.take(inside), names=names, episode=np.array([names.index(k) for k in keys]))
        print(f"{name}: blocks of {seconds:g} s of {len(batch.episodes)} recordings the model has seen")
        table(judge(cut, network=False))


def _worth(own: Any, batch: Any, horizon: float) -> None:
    """Judge the controller, the use of few labels, and what else the latent tells, on the held-out half."""
    from annotators.base import in_test
    from annotators.latent.controller.evaluation import Intervals, judge_controller
    from annotators.latent.controller.model import fit_controller, interval_actions
    from annotators.latent.gates.actions import judge_groups
    from annotators.latent.gates.batches import gather
    from annotators.latent.gates.downstream import judge_downstream
    from annotators.motion.read import step_column

    plain = replace(own, config=replace(own.config, least_gain=None, judge=False, camera_motion=False))
    rows = plain.run(batch)
    rows = rows.filter(rows.column("valid"))
    camera = str(rows.column("camera")[0])
    found = gather(plain, batch, rows, camera, horizon)
    if isinstance(found, str):
        print(f"  {found}")
        return
    test = in_test(batch.groups or batch.episodes)[found.episode]
    table(judge_downstream(found.take(test)))
    texts = [str(batch.steps.column("language")[int(batch.starts[e])]) for e in found.episode]
    table([judge_groups(found.take(test), [t for t, x in zip(texts, test, strict=True) if x], "task")])
    action = next((f for f in batch.contract.features if f.role == "action" and f.dtype.startswith("float")), None)
    if action is None or not test.any() or test.all() or found.start is None or found.stop is None:
        return
    values = step_column(batch.steps.column(action.name)).T
    state = np.zeros((len(test), 0)) if found.state is None else found.state
    every = Intervals(
        interval_actions(values, found.start, np.maximum(found.stop, found.start + 1), 4),
        state.astype(np.float32),
        found.latent,
        found.episode,
    )
    fitted, heldout = every.take(np.flatnonzero(~test)), every.take(np.flatnonzero(test))
    table(judge_controller(fit_controller(fitted.actions, fitted.state, fitted.latents), fitted, heldout))


def table(reports: Iterable[QualityReport]) -> None:
    """Print one line per report."""
    for r in reports:
        if r.value is None:
            print(f"  {r.metric:24s} not measurable: {r.gt_source}")
            continue
        low, high = r.ci95 or (float("nan"), float("nan"))
        beside = " ".join(f"{n}={v:.3f}" for n, v in r.baselines.items())
        told = {
            k: v
            for k, v in r.detail.items()
            if k in ("informativeness", "perplexity", "used", "relabelled", "pretrained", "labels")
        }
        print(
            f"  {r.metric:24s} {r.value:7.3f} ({low:.3f} to {high:.3f}) {r.gate:5s} | {beside} | {r.n_episodes} ep {r.n_rows} rows {told}",
            flush=True,
        )


def _codes(model: Any, shown: Any) -> np.ndarray:
    """Return one number per pair for the codes a discrete model chooses."""
    import torch

    with torch.inference_mode():
        a, b = (torch.from_numpy(np.ascontiguousarray(x)).movedim(3, 1) for x in (shown.first, shown.second))
        code = model.infer(model.encode(a), model.encode(b), torch.zeros(len(a), dtype=torch.int64)).code
    return (code * model.config.codes ** torch.arange(code.shape[1])).sum(1).numpy()


def _cpu() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


if __name__ == "__main__":
    main()
