"""What every mode stores, and what is refused, on toys whose answers are known."""

from typing import Any

import numpy as np
import pytest
import torch

from catalog.lake import Lake
from pipelines.residuals.compute import compute
from pipelines.residuals.config import CacheConfig
from pipelines.residuals.drawing import draw
from pipelines.residuals.from_callable import from_callable
from pipelines.residuals.stage import CacheStage
from pipelines.residuals.store import Cache, open_cache
from pipelines.residuals.teacher import Needs, TeacherSpec
from schemas.errors import UsageError
from tests.contracts.teacher import TeacherContract
from tests.support.residuals import HORIZON, WIDTH, TinyNet, cache, head_teacher, stage_of, tiny_prepare, tiny_teacher
from transforms.entropy import entropy_weights
from transforms.flow import Convention, euler
from transforms.koopman import fit_koopman


def cached(lake: Lake, teacher: Any, **config: Any) -> Cache:
    report = cache(lake, teacher, **config)
    assert not report.rejects
    return open_cache(lake, teacher.spec.teacher_id)


def first_part(stage: CacheStage) -> Any:
    ref = stage.episodes()[0]
    return stage.readers[ref.dataset].read(ref, range(ref.first, ref.stop))


def test_a_frozen_teacher_is_stored_whole_for_a_live_student(toy_mixture: Lake) -> None:
    pair = cached(toy_mixture, tiny_teacher(name="both"), draws=2)
    live = cached(toy_mixture, tiny_teacher(name="live"), draws=2, mode="frozen_teacher_live_student")
    rows = np.arange(len(live))
    old, new = pair.take(rows), live.take(rows)
    assert np.array_equal(old["seed"], new["seed"])
    assert new["v_teacher"].astype(float) == pytest.approx((old["v_base"].astype(float) + old["residual"]), abs=4e-3, rel=2e-3)
    assert new["gt_err_base"] == pytest.approx(old["gt_err_base"], nan_ok=True)


def test_a_teacher_alone_serves_a_student_that_does_not_exist_yet(toy_mixture: Lake) -> None:
    alone = cached(toy_mixture, tiny_teacher(name="alone", privileged=()), draws=2, mode="frozen_teacher_live_student")
    rows = alone.take(np.arange(len(alone)))
    assert np.isnan(rows["gt_err_base"]).all()
    assert np.isfinite(rows["gt_err_teacher"]).any()


def test_online_keeps_the_draws_and_asks_nobody(toy_mixture: Lake) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("asked")

    spec = TeacherSpec("nobody", Convention(), HORIZON, WIDTH)
    needs = tiny_teacher().needs
    silent = from_callable(never, spec, weights={}, prepare=tiny_prepare, needs=needs)
    drawn = cached(toy_mixture, silent, draws=4, mode="online", store_noise=True)
    same = cached(toy_mixture, tiny_teacher(name="asked"), draws=4)
    rows = np.arange(len(drawn))
    assert np.array_equal(drawn.take(rows)["seed"], same.take(rows)["seed"])
    assert np.array_equal(drawn.take(rows)["tau_a"], same.take(rows)["tau_a"])
    assert np.array_equal(drawn.take(rows, ["noise"])["noise"], same.take(rows, ["noise"])["noise"])  # stored, and made again


def test_regression_keeps_the_difference_in_action_space(toy_mixture: Lake) -> None:
    teacher = head_teacher("regress", "regression")
    held = cached(toy_mixture, teacher, mode="regression")
    part = first_part(stage_of(toy_mixture, teacher, mode="regression"))
    rows = held.take([held.row(part.ref.episode_id, f, 0) or 0 for f in part.frames])
    ready = teacher.prepare(part.batch)
    nothing = torch.zeros(len(part.frames), HORIZON, WIDTH), torch.ones(len(part.frames))
    with torch.no_grad():
        said = [teacher.velocity(dict(ready), *nothing, privileged=p).numpy() for p in (False, True)]
    assert rows["a_base"].astype(float) == pytest.approx(said[0], rel=1e-3, abs=1e-3)
    assert rows["residual"].astype(float) == pytest.approx(said[1] - said[0], rel=1e-3, abs=1e-3)
    assert np.isnan(rows["tau_a"]).all()


def test_logits_keep_the_best_and_what_is_left(toy_mixture: Lake) -> None:
    teacher = head_teacher("logits", "categorical")
    held = cached(toy_mixture, teacher, mode="logits", top_k=3)
    part = first_part(stage_of(toy_mixture, teacher, mode="logits", top_k=3))
    rows = held.take([held.row(part.ref.episode_id, f, 0) or 0 for f in part.frames])
    with torch.no_grad():
        logits = teacher.velocity(teacher.prepare(part.batch), None, torch.ones(len(part.frames)), privileged=True).numpy()
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    order = np.argsort(-logp, -1)
    assert rows["token_ids"].dtype == np.uint16
    assert np.array_equal(rows["token_ids"], order[..., :3])
    assert rows["token_logp"].astype(float) == pytest.approx(np.take_along_axis(logp, order[..., :3], -1), rel=2e-3, abs=2e-3)
    left = np.exp(np.take_along_axis(logp, order[..., 3:], -1)).sum(-1)
    assert np.exp(rows["rest_logp"].astype(float)) == pytest.approx(left, rel=5e-3, abs=1e-3)


def test_hidden_states_and_frame_embeddings_keep_their_shape(toy_mixture: Lake) -> None:
    teacher = head_teacher("states", "hidden")
    held = cached(toy_mixture, teacher, mode="hidden", stride=2)
    part = first_part(stage_of(toy_mixture, teacher, mode="hidden"))
    assert held.row(part.ref.episode_id, 1, 0) is None  # every second frame
    rows = held.take([held.row(part.ref.episode_id, f, 0) or 0 for f in part.frames[::2]])
    with torch.no_grad():
        states = teacher.velocity(teacher.prepare(part.batch), None, None, privileged=True)[::2].numpy()
    assert rows["hidden"].shape == states.shape
    assert rows["hidden"].astype(float) == pytest.approx(states, rel=1e-3, abs=1e-3)


def test_errors_serve_curation_and_residual_targets(toy_mixture: Lake) -> None:
    teacher = head_teacher("errors", "regression")
    held = cached(toy_mixture, teacher, mode="error")
    part = first_part(stage_of(toy_mixture, teacher, mode="error"))
    rows = held.take([held.row(part.ref.episode_id, f, 0) or 0 for f in part.frames])
    action = tiny_prepare(part.batch)["action"].numpy()
    assert rows["a_base"] - rows["error"] == pytest.approx(action, rel=1e-6, abs=1e-6)  # a = a_base + (a - a_base)
    everything = held.take(np.arange(len(held)))
    assert entropy_weights(everything["error"]).mean() == pytest.approx(1)
    state = part.batch["observation.state"][:, 0].numpy()
    fitted = fit_koopman(state[:-1], action[:-1, 0], state[1:])
    assert np.isfinite(fitted.error)


def test_a_flow_is_sampled_for_its_errors(toy_mixture: Lake) -> None:
    teacher = tiny_teacher(name="sampled")
    held = cached(toy_mixture, teacher, mode="error", steps=4)
    stage = stage_of(toy_mixture, teacher, mode="error", steps=4)
    part = first_part(stage)
    ready = teacher.prepare(part.batch)
    noise = torch.from_numpy(
        draw(teacher.spec, stage.config, part.ref.dataset, part.ref.episode_id, part.frames).noise[:, 0]
    ).float()
    with torch.no_grad():
        chunk = euler(lambda x, t: teacher.velocity(dict(ready), x, torch.full((len(x),), t), privileged=False), noise, 4)
    rows = held.take([held.row(part.ref.episode_id, f, 0) or 0 for f in part.frames])
    assert rows["a_base"] == pytest.approx(chunk.numpy(), rel=1e-5, abs=1e-5)


def test_draws_share_encodings_and_auxiliary_noise(toy_mixture: Lake) -> None:
    calls: list[Any] = []
    net = TinyNet()

    def answer(ready: Any, a_tau: Any, tau: Any, privileged: bool) -> Any:
        calls.append((ready["noise_video"].clone(), ready["tau_video"].clone(), privileged))
        return net.layer(torch.cat([ready["now"], ready["future"], a_tau.flatten(1), tau[:, None]], 1)).reshape(
            -1, HORIZON, WIDTH
        )

    spec = TeacherSpec(
        "aux",
        Convention(),
        HORIZON,
        WIDTH,
        privileged=("future",),
        aux_noise={"video": (3, 2)},
        aux_sampler={"video": "shifted(5)"},
    )
    teacher = from_callable(answer, spec, weights=net, prepare=tiny_prepare, needs=tiny_teacher().needs)
    stage = stage_of(toy_mixture, teacher, draws=4, video_draws=2)
    part = first_part(stage)
    rows, _ = compute(teacher, stage.config, part)
    assert len(calls) == 8
    assert all(torch.equal(calls[i][0], calls[0][0]) for i in range(4))
    assert not torch.equal(calls[4][0], calls[0][0])
    taus = rows["tau_v"].reshape(-1, 4)
    assert np.array_equal(taus[:, 0], taus[:, 1])
    assert np.array_equal(taus[:, 0], calls[0][1].numpy())
    assert not np.array_equal(taus[:, 0], taus[:, 2])
    for text, wanted in (("clean", {0.0}), ("fixed(0.5)", {0.5}), ("grid(0.25,0.75)", {0.25, 0.75})):
        found, _ = compute(teacher, CacheConfig(draws=4, video_draws=2, future_noise=text), part)
        assert set(found["tau_v"].tolist()) == wanted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mode": "frozen"}, "mode 'frozen' is unknown"), ({"draws": 3, "video_draws": 2}, "multiple of video_draws"), ({"batch": 0}, "batch is 0"),
        ({"tau": "gauss(1)"}, "no sampler"), ({"future_noise": "dirty"}, "no sampler"), ({"compute": "int8"}, "compute 'int8'"),
        ({"audit_share": 2.0}, "share from 0 to 1"), ({"mode": "hidden", "store_noise": True}, "no noise to store"),
    ],
)  # fmt: skip
def test_impossible_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CacheConfig(**config)


def test_a_teacher_must_say_what_it_is_made_of(toy_mixture: Lake) -> None:
    with pytest.raises(UsageError, match="pass weights="):
        from_callable(lambda *_: None, TeacherSpec("bare", Convention(), 4, 4))
    wrong = tiny_teacher(name="wrong", horizon=8)
    with pytest.raises(UsageError, match=r"its actions are \(\d+, 4, 4\), promised were"):
        cache(toy_mixture, wrong)
    lost = tiny_teacher(name="lost", privileged=("sim_state",))
    with pytest.raises(UsageError, match=r"calls \['sim_state'\] privileged"):
        cache(toy_mixture, lost)
    with pytest.raises(UsageError, match="lower-case"):
        TeacherSpec("No Slug", Convention(), 4, 4)
    assert Needs().keys is None


def test_a_reduced_forward_is_measured_and_refused_where_it_drowns(toy_mixture: Lake) -> None:
    fine = cached(toy_mixture, tiny_teacher(name="half"), draws=2, compute="bfloat16")
    assert fine.header.snr_db is not None
    assert fine.header.snr_db > 30
    net = TinyNet()
    with torch.no_grad():
        net.layer.weight[:, 4:8] *= 1e-3  # the future hardly matters: what bfloat16 rounds away is as large
    with pytest.raises(UsageError, match="dB in bfloat16 against float32"):
        cache(toy_mixture, tiny_teacher(name="drowned", net=net), draws=2, compute="bfloat16")


class TestCallable(TeacherContract):
    @pytest.fixture
    def teacher(self) -> Any:
        return tiny_teacher(name="contract")

    @pytest.fixture
    def batch(self) -> Any:
        state, action = torch.randn(3, 2, 4), torch.randn(3, HORIZON, WIDTH)
        return {"observation.state": state, "action": action, "action_is_pad": torch.zeros(3, HORIZON, dtype=torch.bool)}
