"""The honest gate on simulated data: a tiny FastWAM, teacher and student of the same weights, cached over a PushT recording.

Its weights are trained here for a few hundred steps under both masks, on the episodes that adapters learn from; then it is frozen.
What is printed is whether the teacher beats the student, and whether an adapter from the cache beats the student, one from the
truth alone, one from random targets and one from shuffled futures, on episodes that neither network has seen. Run
`python -m benchmarks.residuals_fastwam`; it says what came out, not that it passed.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import goal, main
from catalog.lake import Lake
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.mixture.manifest import open_mixture
from pipelines.mixture.mix import mix
from pipelines.record.record import record
from pipelines.record.spec import RecordSpec
from pipelines.residuals.adapter import AdapterConfig
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.gates import held_out, measure_leak, teacher_gate, utility_gate
from pipelines.residuals.stage import CacheStage, Held
from pipelines.residuals.store import open_cache
from pipelines.residuals.teachers.common import Policy
from pipelines.residuals.teachers.fastwam import FastWAMTeacher
from pipelines.sources.base import SourceOptions
from pipelines.sources.registry import open_source
from pipelines.unit import run_stage
from schemas.mixture import MixtureSpec, SourceSpec
from tests.support.policies import tiny_fastwam
from transforms.flow import noisy

HERE = Execution(workers=0)
STRIDE = 6  # frames; neighbours say the same


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="cotrain-fastwam-") as folder, pytest.MonkeyPatch.context() as patch:
        lake = recording(Path(folder), 6 if quick else 16)
        teacher = built(lake, patch, Path(folder))
        stage = stage_of(lake, teacher)
        learn_ids = episode_split(stage)
        losses = fit(stage, learn_ids, 30 if quick else 1000)
        results = [{"case": "policy", "loss_first": round(losses[0], 3), "loss_last": round(float(np.mean(losses[-20:])), 3)}]
        goals: list[dict[str, Any]] = []
        for future in ("train_schedule",) if quick else ("train_schedule", "clean"):
            found, said = judged(lake, FastWAMTeacher(teacher.policy), learn_ids, 30 if quick else 300, future)
            results, goals = results + found, goals + said
        return results, goals


def recording(folder: Path, episodes: int) -> Lake:
    """Record PushT, ingest it and mix all of it."""
    spec = RecordSpec("pusht", episodes=episodes, size=32, hz=10, cameras=("front",), segmentation_hz=0)
    record(spec, folder / "pusht", workers=0)
    lake = Lake.at(folder / "lake")
    run_stage(IngestStage(lake, open_source(str(folder / "pusht"), SourceOptions("pusht"), "auto"), "none"), execution=HERE)
    mix(lake, MixtureSpec("pusht", 10, (SourceSpec("pusht"),)), execution=HERE)
    return lake


def built(lake: Lake, patch: pytest.MonkeyPatch, folder: Path) -> FastWAMTeacher:
    """Build the policy and normalise with the mixture's own statistics."""
    import torch
    from lerobot.policies.fastwam.processor_fastwam import make_fastwam_pre_post_processors

    mixture = open_mixture(lake, "pusht")
    contract = mixture.contracts["pusht"]
    sizes = {f.name: f.size for f in contract.features}
    policy = tiny_fastwam(patch, folder, state=sizes["observation.state"], action=sizes["action"])
    assert mixture.statistics is not None
    found = {name: mixture.statistics.get(contract.action_space, name) for name in ("action", "observation.state")}
    stats = {n: {"mean": torch.tensor(s.mean), "std": torch.tensor(s.std)} for n, s in found.items()}
    preprocess, _ = make_fastwam_pre_post_processors(policy.config, stats)
    return FastWAMTeacher(Policy(policy, preprocess, (policy.model.vae, policy.model.text_encoder)))


def stage_of(lake: Lake, teacher: FastWAMTeacher, *, future: str = "train_schedule", shuffle: bool = False) -> CacheStage:
    config = CacheConfig(draws=4, stride=STRIDE, future_noise=future, shuffle_future=shuffle)
    return CacheStage(lake, "pusht", Held(teacher), config)


def episode_split(stage: CacheStage) -> set[str]:
    """Episodes to learn from: four fifths by the hash of their ids, the same ones as `held_out` chooses."""
    from annotators.evaluation import folds

    ids = [r.episode_id for r in stage.episodes()]
    return {e for e, fold in zip(ids, folds(ids, 5), strict=True) if fold != 0}


def fit(stage: CacheStage, learn: set[str], steps: int) -> list[float]:
    """Train action and video experts under both masks, on what the frozen VAE made of the learning episodes."""
    import torch

    teacher: Any = stage.teacher
    core, parts = teacher.core, list[dict[str, Any]]()
    with torch.no_grad():
        for ref in (r for r in stage.episodes() if r.episode_id in learn):
            parts += [
                teacher.prepare(p.batch) for p in stage.readers[ref.dataset].parts([ref], 64, STRIDE) if not isinstance(p, tuple)
            ]
    names = ("first_latents", "future_latents", "context", "context_mask", "action", "action_is_pad")
    whole = {n: torch.cat([p[n] for p in parts]) for n in names}
    optimiser = torch.optim.AdamW(core.mot.parameters(), 2e-3)
    generator, losses = torch.Generator().manual_seed(0), list[float]()
    for _ in range(steps):
        picked = torch.randint(len(whole["action"]), (32,), generator=generator)
        ready = {n: v[picked] for n, v in whole.items()} | {"fuse": True}
        aux = {"video": torch.randn((32, *teacher.spec.aux_noise["video"]), generator=generator), "tau_video": shifted(generator)}
        noise, tau = torch.randn(ready["action"].shape, generator=generator), shifted(generator)
        t = tau[:, None, None]
        context = teacher.encode(ready, aux)
        real, loss = (~ready["action_is_pad"]).float()[..., None], torch.zeros(())
        for privileged in (False, True):
            answer = trainable(core, context, noisy(ready["action"], noise, t), tau, privileged=privileged)
            loss = loss + (((answer - (noise - ready["action"])) ** 2) * real).sum() / (real.sum() * noise.shape[-1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()) / 2)
    return losses


def shifted(generator: Any) -> Any:
    import torch

    u = torch.rand(32, generator=generator)
    return 5 * u / (1 + 4 * u)


def trainable(core: Any, context: dict[Any, Any], a_tau: Any, tau: Any, *, privileged: bool) -> Any:
    """The adapter's velocity with gradients: LeRobot's cached forward is for inference alone."""
    action = core.action_expert.pre_dit(
        action_tokens=a_tau, timestep=tau * 1000, context=context["context"], context_mask=context["mask"]
    )
    tokens = core.mot.forward_action_with_video_cache(
        action["tokens"], action["freqs"], action["t_mod"], {"context": action["context"], "mask": action["context_mask"]},
        context["cache"], context[privileged], context["length"],
    )  # fmt: skip
    return core.action_expert.post_dit(tokens, action)


def judged(
    lake: Lake, teacher: FastWAMTeacher, learn: set[str], steps: int, future: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cache, with true and with shuffled futures, and measure."""
    teacher.policy.module.eval()
    caches = {}
    for shuffle in (False, True):
        stage = stage_of(lake, teacher, future=future, shuffle=shuffle)
        report = run_stage(stage, execution=HERE)
        assert not report.rejects, report.rejects
        caches[shuffle] = open_cache(lake, "fastwam", stage.key)
    cache = caches[False]
    segments = list(cache.episodes.items())
    parts = ([s for e, s in segments if e in learn], [s for e, s in segments if e not in learn])
    assert sorted(parts[1]) == held_out(cache)[1]
    stage = stage_of(lake, teacher, future=future)
    ref = stage.episodes()[0]
    leak = measure_leak(teacher, stage.config, stage.readers["pusht"].read(ref, range(ref.first, ref.first + 8)))
    wise = teacher_gate(cache, parts[1])
    config = AdapterConfig(steps=steps, batch=256, width=32, time_dim=32)
    plain = utility_gate(cache, caches[True], config, parts)
    rows = cache.take(np.arange(len(cache)), ["r_norm", "v_norm", "tau_a"])
    top = rows["tau_a"] > np.median(rows["tau_a"])
    results = [
        {"case": f"residual, future {future}", "rows": len(cache), "r_over_v": round(float(rows["r_norm"].mean() / rows["v_norm"].mean()), 4),
         "r_norm_high_tau": round(float(rows["r_norm"][top].mean()), 4), "r_norm_low_tau": round(float(rows["r_norm"][~top].mean()), 4)},
        {"case": "leak", "student": leak.student, "teacher": round(leak.teacher, 4)},
        {"case": "teacher gate", "gate": wise.gate, "gain": wise.value, "ci95": wise.ci95, "student_error": wise.baselines["student"]},
        {"case": "adapter gate", "gate": plain.gate, "adapter": plain.value, **plain.baselines, **plain.detail},
    ]  # fmt: skip
    return results, [
        goal(f"student_moved_by_the_future_{future}", "0", leak.student, leak.student == 0),
        goal(f"teacher_gain_over_student_{future}", "> 0 with its interval", wise.value or 0.0, wise.gate == "pass"),
        goal(
            f"adapter_error_{future}",
            "below student's and truth alone's, shuffled above",
            plain.value or 0.0,
            plain.gate == "pass",
        ),
    ]


if __name__ == "__main__":
    main("residuals_fastwam", __doc__ or "", run)
