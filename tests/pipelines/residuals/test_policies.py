"""Unmodified LeRobot policies, built tiny from their configurations, as teachers: checked against LeRobot's own training paths."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.lake import Lake
from pipelines.residuals.audit import audit
from pipelines.residuals.compute import noised
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.gates import measure_leak
from pipelines.residuals.pair import TeacherPair
from pipelines.residuals.reading import Part
from pipelines.residuals.store import open_cache
from pipelines.residuals.teachers.act import ActTeacher
from pipelines.residuals.teachers.common import Policy
from pipelines.residuals.teachers.diffusion import DiffusionTeacher
from pipelines.residuals.teachers.flow_probe import Pi0Teacher, Pi05Teacher, SmolVLATeacher
from pipelines.residuals.teachers.hidden import HiddenTeacher
from pipelines.residuals.teachers.multi_task_dit import MultiTaskDitTeacher
from pipelines.unit import run_stage
from schemas.errors import UsageError
from tests.contracts.teacher import TeacherContract
from tests.support.policies import fastwam_teacher, tiny_act, tiny_diffusion, tiny_dit, tiny_fastwam, tiny_pi, tiny_smolvla
from tests.support.residuals import HERE, cache, stage_of
from transforms.flow import noisy, target

# What transformers, diffusers and LeRobot warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
B = 3


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def wam(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_fastwam(patch, tmp_path_factory.mktemp("fastwam"))


def a_batch(horizon: int, history: int = 0, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    lead = (history,) if history else ()
    return {
        "observation.images.front": torch.randint(0, 255, (B, *lead, 3, 32, 32), generator=generator, dtype=torch.uint8),
        "observation.state": torch.randn(B, *lead, 4, generator=generator), "action": torch.randn(B, horizon, 4, generator=generator),
        "action_is_pad": torch.zeros(B, horizon, dtype=torch.bool), "task": ["task 0", "task 1", "task 0"],
        "observation.language.tokens": torch.randint(3, 6, (B, 5), generator=generator),
        "observation.language.attention_mask": torch.ones(B, 5, dtype=torch.bool),
    }  # fmt: skip


def some(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_fastwams_student_is_lerobots_own_and_sees_no_future(wam: Any) -> None:
    teacher = fastwam_teacher(wam)
    batch = a_batch(8, 9)
    with torch.no_grad():
        ready = teacher.prepare(batch)
        aux = {"video": some((B, *teacher.spec.aux_noise["video"])), "tau_video": torch.tensor([0.2, 0.5, 0.9])}
        action, tau = some((B, 8, 4)), torch.tensor([0.1, 0.6, 0.95])
        context = teacher.encode(ready, aux)
        student, wise = (teacher.velocity(context, action, tau, privileged=p) for p in (False, True))
        core = wam.model
        clean = torch.cat([ready["first_latents"], ready["future_latents"]], 2)
        latents = core.train_video_scheduler.add_noise(clean, aux["video"], aux["tau_video"] * 1000)
        latents[:, :, :1] = clean[:, :, :1]
        inputs = {
            "context": ready["context"],
            "context_mask": ready["context_mask"],
            "action": action,
            "fuse_vae_embedding_in_latents": True,
        }
        targets = {
            "latents": latents,
            "timestep_video": aux["tau_video"] * 1000,
            "noisy_action": action,
            "timestep_action": tau * 1000,
        }
        _, trained = core._run_training_mot(inputs, targets)  # what LeRobot trains and ships
        other = dict(batch)
        other["observation.images.front"] = batch["observation.images.front"].clone()
        other["observation.images.front"][:, 1:] = a_batch(8, 9, seed=5)["observation.images.front"][
            :, 1:
        ]  # other pixels from now on
        moved = teacher.encode(teacher.prepare(other), aux)
        assert student.numpy() == pytest.approx(trained.numpy(), abs=1e-5)
        assert torch.equal(teacher.velocity(moved, action, tau, privileged=False), student)  # exactly: 0.0
        assert (teacher.velocity(moved, action, tau, privileged=True) - wise).abs().max() > 1e-4
        assert (wise - student).abs().mean() > 1e-3
        with teacher.precise():
            assert torch.equal(teacher.velocity(context, action, tau, privileged=True), wise)
    x, e = some((B, 8, 4), 2), some((B, 8, 4), 3)
    scheduler, t = core.train_action_scheduler, torch.tensor([0.2, 0.5, 0.7])
    assert scheduler.add_noise(x, e, t * 1000).numpy() == pytest.approx(noisy(x, e, t[:, None, None]).numpy(), abs=1e-6)
    assert torch.equal(scheduler.training_target(x, e, t), target("flow", x, e))


def test_fastwam_is_cached_over_a_mixture_and_notices_every_change(wam: Any, toy_mixture: Lake) -> None:
    teacher = fastwam_teacher(wam)
    report = cache(toy_mixture, teacher, draws=2)
    assert (report.total("rows"), report.rejects) == (97 * 2, ())
    held = open_cache(toy_mixture, "fastwam")
    rows = held.take(np.arange(len(held)))
    assert rows["residual"].shape == (194, 8, 4)
    assert np.isfinite(rows["tau_v"]).all()
    assert np.abs(rows["residual"]).mean() > 1e-4
    stage = stage_of(toy_mixture, teacher, draws=2)
    assert audit(stage, share=0.2).identical == 1.0
    ref = stage.episodes()[0]
    leak = measure_leak(teacher, stage.config, stage.readers[ref.dataset].read(ref, range(4)))
    assert (leak.student, leak.sound) == (0.0, True)
    keys = {stage.key, stage_of(toy_mixture, fastwam_teacher(wam, mean=0.1001), draws=2).key}
    assert len(keys) == 2  # one value of the normaliser
    with torch.no_grad():
        for weight in (next(wam.parameters()), next(wam.model.vae.parameters()), next(wam.model.text_encoder.parameters())):
            weight.reshape(-1)[0] += 1e-6
            keys.add(stage_of(toy_mixture, fastwam_teacher(wam), draws=2).key)
    assert len(keys) == 5  # a weight of the policy, of its frozen VAE, of its text encoder
    with pytest.raises(UsageError, match="normalisers"):
        TeacherPair(fastwam_teacher(wam), _student(fastwam_teacher(wam, mean=0.2)))


def _student(teacher: Any) -> Any:
    object.__setattr__(teacher.spec, "privileged", ())
    return teacher


def test_a_video_that_sees_ahead_is_refused(wam: Any) -> None:
    held = wam.config.video_dit_config["video_attention_mask_mode"]
    wam.config.video_dit_config["video_attention_mask_mode"] = "bidirectional"
    try:
        with pytest.raises(UsageError, match="would see the future through the first frame"):
            fastwam_teacher(wam)
    finally:
        wam.config.video_dit_config["video_attention_mask_mode"] = held


@pytest.mark.parametrize("kind", ["smolvla", "pi0", "pi05"])
def test_many_draws_of_one_prefix_equal_as_many_forwards(kind: str, patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adapter = {"smolvla": SmolVLATeacher, "pi0": Pi0Teacher, "pi05": Pi05Teacher}[kind]
    module = tiny_smolvla(tmp_path / "vlm") if kind == "smolvla" else tiny_pi(patch, kind)
    teacher = adapter(Policy(module))
    spec, batch, calls = teacher.spec, a_batch(4), []
    embed = module.model.embed_prefix
    patch.setattr(module.model, "embed_prefix", lambda *a, **k: calls.append(1) or embed(*a, **k))
    with torch.no_grad():
        ready = teacher.prepare(batch)
        action = torch.nn.functional.pad(ready["action"], (0, spec.width - 4))
        draws = [(some((B, 4, spec.width), k), torch.tensor([0.1, 0.5, 0.9]) + 0.01 * k) for k in range(4)]
        context = teacher.encode(ready, {})
        many = [teacher.velocity(context, noisy(action, e, t[:, None, None]), t, privileged=True) for e, t in draws]
        assert len(calls) == 1
        again = teacher.velocity(context, noisy(action, draws[0][0], draws[0][1][:, None, None]), draws[0][1], privileged=True)
        assert torch.equal(again, many[0])  # asking does not wear the prefix out
        images = module.prepare_images(ready) if kind == "smolvla" else module._preprocess_images(ready)
        tokens = (ready["observation.language.tokens"], ready["observation.language.attention_mask"])
        state = () if kind == "pi05" else (module.prepare_state(ready),)
        for (e, t), found in zip(draws, many, strict=True):
            losses = module.model.forward(*images, *tokens, *state, action, e, t)  # LeRobot's training path: (u - v)^2, u = e - a
            assert ((e - action - found) ** 2).numpy() == pytest.approx(losses.numpy(), rel=2e-3, abs=2e-4)
    assert len(calls) == 5
    assert (module.config.rtc_config, module.model.rtc_processor) == (None, None)
    assert (spec.horizon, spec.action_dim, spec.width) == (4, 4, 8)


def test_smolvla_is_cached_beside_its_own_student(toy_mixture: Lake, tmp_path: Path) -> None:
    wise, plain = (SmolVLATeacher(Policy(_tokenised(tiny_smolvla(tmp_path / str(i)), seed=i))) for i in range(2))
    object.__setattr__(wise, "policy", Policy(wise.policy.module, _words))
    object.__setattr__(plain, "policy", Policy(plain.policy.module, _words))
    report = cache(toy_mixture, TeacherPair(wise, plain), draws=3)
    assert (report.total("rows"), report.rejects) == (97 * 3, ())
    rows = open_cache(toy_mixture, "smolvla").take(np.arange(97 * 3), ["residual", "noise"])
    assert rows["residual"].shape == rows["noise"].shape == (291, 4, 4)  # the padding is not stored
    assert np.abs(rows["residual"]).mean() > 1e-4
    compiled = tiny_smolvla(tmp_path / "c")
    compiled.config.compile_model = True
    with pytest.raises(UsageError, match="compile_model"):
        SmolVLATeacher(Policy(compiled))


def _tokenised(module: Any, seed: int) -> Any:
    with torch.no_grad():
        module.model.action_out_proj.weight.add_(0.1 * some(tuple(module.model.action_out_proj.weight.shape), seed))
    return module


def _words(batch: dict[str, Any]) -> dict[str, Any]:
    tokens = torch.tensor([[3 + len(t) % 3, 4] for t in batch["task"]])
    return batch | {
        "observation.language.tokens": tokens,
        "observation.language.attention_mask": torch.ones_like(tokens, dtype=torch.bool),
    }


def test_diffusion_answers_in_its_own_space() -> None:
    teacher = DiffusionTeacher(Policy(tiny_diffusion()))
    core, batch = teacher.core, a_batch(8, 2)
    with torch.no_grad():
        ready = teacher.prepare(batch)
        steps = torch.tensor([0, 7, 19])
        tau, noise = steps / 20, some((B, 8, 4))
        point = noised(teacher, ready["action"], noise, tau)
        assert point.numpy() == pytest.approx(core.noise_scheduler.add_noise(ready["action"], noise, steps).numpy(), abs=1e-6)
        found = teacher.velocity(teacher.encode(ready, {}), point, tau, privileged=True)
        torch.manual_seed(3)
        eps, drawn = torch.randn(B, 8, 4), torch.randint(0, 20, (B,))
        torch.manual_seed(3)
        loss = core.compute_loss(ready)
        own = teacher.velocity(
            teacher.encode(ready, {}), noised(teacher, ready["action"], eps, drawn / 20), drawn / 20, privileged=True
        )
    assert float(loss) == pytest.approx(float(((own - eps) ** 2).mean()), rel=1e-4)
    assert found.shape == (B, 8, 4)
    assert (teacher.spec.kind, teacher.spec.convention.sampler) == ("ddpm_eps", "steps(20)")


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_the_dit_flow_is_turned_round_as_it_was_trained(tmp_path: Path, sigma_min: float) -> None:
    module = tiny_dit(tmp_path, sigma_min=sigma_min)
    teacher, seen = MultiTaskDitTeacher(Policy(module)), []
    with torch.no_grad():
        ready = teacher.prepare(a_batch(8, 2))

        def spy(x: Any, t: Any, conditioning_vec: Any) -> Any:
            seen.append((x, t))
            return torch.zeros_like(x)

        torch.manual_seed(1)
        noise = torch.randn_like(ready["action"])
        torch.manual_seed(1)
        module.objective.compute_loss(spy, ready, None)
        x, s = seen[0]
        native = ready["action"] - (1 - sigma_min) * noise  # the target LeRobot trains on
        found = teacher.convention.to_canonical(native, x, s[:, None, None])
        assert found.numpy() == pytest.approx((noise - ready["action"]).numpy(), abs=1e-5)
        context = teacher.encode(ready, {})
        tau = 1 - s / (1 + sigma_min * s)  # the canonical time of that point: t with s = (1 - t) / (1 - sigma_min (1 - t))
        point = noisy(ready["action"], noise, tau[:, None, None])
        answer = teacher.velocity(context, point, tau, privileged=True)
        own = module.noise_predictor(x, s, conditioning_vec=context)
        assert answer.numpy() == pytest.approx(teacher.convention.to_canonical(own, x, s[:, None, None]).numpy(), abs=1e-4)


def test_act_regresses_and_its_states_decode_to_its_actions(toy_mixture: Lake) -> None:
    teacher = ActTeacher(Policy(tiny_act()))
    other = ActTeacher(Policy(tiny_act()))
    with torch.no_grad():
        other.policy.module.model.action_head.bias += 0.25
    few: dict[str, Any] = {"execution": HERE, "limit": 1}
    assert not run_stage(stage_of(toy_mixture, TeacherPair(teacher, other), mode="regression"), **few).rejects
    held = open_cache(toy_mixture, "act")
    rows = held.take(np.arange(len(held)), ["residual", "a_base"])
    assert rows["residual"].astype(float) == pytest.approx(np.full((len(held), 4, 4), -0.25), abs=1e-3)
    states = HiddenTeacher(ActTeacher(teacher.policy, "act-states"), teacher.policy.module, "model.decoder", batch_axis=1)
    stage = stage_of(toy_mixture, states, mode="hidden")
    assert not run_stage(stage, **few).rejects
    held = open_cache(toy_mixture, "act-states")
    ref = next(r for r in stage.episodes() if r.episode_id in held.episodes)
    part: Part = stage.readers[ref.dataset].read(ref, range(5))
    kept = held.take([held.row(ref.episode_id, f, 0) or 0 for f in range(5)])["hidden"]
    with torch.no_grad():
        decoded = teacher.policy.module.model.action_head(torch.from_numpy(kept).float())
        actions = teacher.encode(teacher.prepare(part.batch), {})
    assert decoded.numpy() == pytest.approx(actions.numpy(), abs=2e-2)
    with pytest.raises(UsageError, match=r"has no layer 'model\.decoderr'; near it are"):
        HiddenTeacher(teacher, teacher.policy.module, "model.decoderr")
    assert stage.key != stage_of(toy_mixture, states, mode="hidden", stride=2).key
    assert CacheConfig(mode="hidden").draws == 1


class TestFastWAM(TeacherContract):
    @pytest.fixture(scope="class")
    def teacher(self, wam: Any) -> Any:
        return fastwam_teacher(wam)

    @pytest.fixture
    def batch(self) -> Any:
        return a_batch(8, 9)


class TestDiffusion(TeacherContract):
    @pytest.fixture(scope="class")
    def teacher(self) -> Any:
        return DiffusionTeacher(Policy(tiny_diffusion()))

    @pytest.fixture
    def batch(self) -> Any:
        return a_batch(8, 2)


class TestMultiTaskDit(TestDiffusion):
    @pytest.fixture(scope="class")
    def teacher(self, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return MultiTaskDitTeacher(Policy(tiny_dit(tmp_path_factory.mktemp("dit"))))


class TestAct(TeacherContract):
    @pytest.fixture(scope="class")
    def teacher(self) -> Any:
        return ActTeacher(Policy(tiny_act()))

    @pytest.fixture
    def batch(self) -> Any:
        return a_batch(4)


class TestPi0(TestAct):
    @pytest.fixture(scope="class")
    def teacher(self, patch: pytest.MonkeyPatch) -> Any:
        return Pi0Teacher(Policy(tiny_pi(patch, "pi0")))


class TestSmolVLA(TestAct):
    @pytest.fixture(scope="class")
    def teacher(self, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return SmolVLATeacher(Policy(tiny_smolvla(tmp_path_factory.mktemp("vlm"))))
