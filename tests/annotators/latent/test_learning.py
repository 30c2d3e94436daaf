"""Learning: every variant learns, goes on exactly where it stopped, and its parts do what their formulas say."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotators.clips import Clip
from annotators.latent import books, bottlenecks, losses
from annotators.latent.augment import moved, views
from annotators.latent.checkpoint import load_books, save
from annotators.latent.config import Lam, LamConfig, LamTraining, sized
from annotators.latent.inference import ask
from annotators.latent.learn import Learner, batches, fit, rate_at
from annotators.latent.model import build, carried
from annotators.latent.pool import Pool, agent_in, pairs_of
from schemas.errors import UsageError

TINY = Lam(
    LamConfig(side=32, width=4, dim=3, layers=(1, 1, 1), heads=2),
    LamTraining(steps=12, batch=8, rate=5e-3, motion=5.0, derive=0, flow=0.0),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def squares(count: int, seed: int = 0, side: int = 32) -> Pool:
    """Pairs of pictures of a square that was pushed by up to 4 pixels; the push is the label."""
    rng = np.random.default_rng(seed)
    pictures = np.full((2 * count, side, side, 3), 40, np.uint8)
    at, push = rng.integers(6, side - 14, (count, 2)), rng.integers(-4, 5, (count, 2))
    for n in range(count):
        for place, (y, x) in ((n, at[n]), (n + count, at[n] + push[n])):
            pictures[place, y : y + 8, x : x + 8] = (230, 60, 60)
    here = np.arange(count)
    return Pool(
        pictures, here, here + count, np.zeros(count, np.int64), np.zeros(count, bool), label=(push / 4).astype(np.float32)
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "noise": {},
    "sparse": {"bottleneck": "sparse"},
    "vq": {"bottleneck": "vq", "codes": 4, "tokens": 2},
    "nsvq": {"bottleneck": "nsvq", "codes": 4},
    "ema": {"target": "ema"},
    "token": {"family": "token", "width": 16, "patch": 8},
    "token ema": {"family": "token", "width": 16, "patch": 8, "target": "ema", "tokens": 2},
    "own features": {"family": "token", "width": 16, "target": "tests.support.latent_features:means"},
    "every loss": {"flow": 0.1, "warp": 0.1, "texture": 0.1, "labels": 0.5},
    "painted": {"carry": False, "horizons_s": (0.2, 0.4)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_and_goes_on_exactly_where_it_stopped(name: str) -> None:
    lam, pool = TINY.changed(VARIANTS[name]), squares(40)
    pool = replace(pool, agent=pool.pictures[..., 0] > 200, label=pool.label if name == "every loss" else None)
    labels = 0 if pool.label is None else 2

    def run(learner: Learner, stop: int) -> list[float]:
        rows = list(batches(pool, lam, learner.step))[: stop - learner.step]
        return [learner.learn(pool.sample(r, **learner.wants))["reconstruction"] for r in rows]

    straight, first, second = Learner(lam, labels=labels), Learner(lam, labels=labels), Learner(lam, labels=labels)
    costs = run(straight, 12)
    run(first, 5)
    second.resume(first.state())
    run(second, 12)
    assert np.mean(costs[-3:]) < np.mean(costs[:2])
    same = straight.state()
    assert all(torch.equal(value, same[key]) for key, value in second.state().items())


def test_labels_alone_make_a_latent_that_tells_the_action() -> None:
    """What supervision reads off the latent is in it; the twin with shuffled labels has nothing to read on other pairs."""
    lam = TINY.changed({"steps": 60, "labels": 5.0, "bottleneck": "sparse", "sparse": 0.0, "shift": 0.0, "width": 8})
    pool, held = squares(200), squares(100, 9)

    def told(pool: Pool) -> float:
        model = fit(pool, lam)
        z = [ask(model, p.pictures, p.first, p.second, p.horizon, 64).value.reshape(len(p), -1) for p in (squares(200), held)]
        read = np.linalg.lstsq(np.c_[z[0], np.ones(200)], squares(200).label, rcond=None)[0]
        gap = held.label - np.c_[z[1], np.ones(100)] @ read
        return float(1 - (gap**2).sum() / ((held.label - held.label.mean(0)) ** 2).sum())

    assert told(pool) > 0.5
    assert told(replace(pool, label=np.random.default_rng(0).permutation(pool.label))) < 0.2


def test_the_nsvq_error_keeps_its_length_and_codes_are_the_nearest() -> None:
    book = bottlenecks.Codes(2, 3, 5, "nsvq")
    raw, noise = torch.randn(7, 6), torch.randn(7, 2, 3)
    found = book(raw, noise)
    gaps = (raw.view(7, 2, 1, 3) - book.book).norm(dim=3)
    assert torch.equal(found.code, gaps.argmin(2))
    assert torch.allclose(found.distance, gaps.amin(2), atol=1e-5)
    assert torch.allclose((found.value - found.mean).norm(dim=2), gaps.amin(2), atol=1e-5)
    assert torch.equal(book(raw, None).value, book.book[found.code])


def test_straight_through_passes_the_decoders_gradient_and_its_loss_is_vq() -> None:
    book = bottlenecks.Codes(1, 2, 3, "vq")
    raw = torch.randn(4, 2, requires_grad=True)
    found = book(raw, torch.randn(4, 1, 2))
    assert torch.equal(found.value.detach(), book.book[found.code].detach()) or torch.allclose(found.value, book.book[found.code])
    (gradient,) = torch.autograd.grad(found.value.sum(), raw, retain_graph=True)
    assert torch.equal(gradient, torch.ones(4, 2))
    assert found.loss.item() == pytest.approx(1.25 * ((raw[:, None] - book.book[found.code]) ** 2).mean().item(), rel=1e-5)


def test_dead_codes_are_revived_on_latents_that_were_seen() -> None:
    book = bottlenecks.Codes(1, 2, 4, "vq")
    with torch.no_grad():
        book.book[:] = torch.tensor([[0.0, 0.0], [50.0, 50.0], [-50.0, 50.0], [50.0, -50.0]])
    seen = torch.randn(64, 2)
    book(seen, torch.zeros(64, 1, 2))
    assert book.revive(seen[:, None], torch.rand(4, 3)) == 3
    assert len(torch.unique(book(seen, None).code)) > 1
    assert book.use.sum() == 0
    assert [s for s in range(1, 1200) if bottlenecks.is_time_to_revive(s)][:12] == [
        10,
        20,
        30,
        40,
        50,
        60,
        70,
        80,
        90,
        100,
        200,
        300,
    ]


def test_noise_costs_what_kullback_and_leibler_say() -> None:
    noise = bottlenecks.Noise(2, 3)
    raw = torch.randn(5, 12)
    found = noise(raw, None)
    assert found.logvar is not None
    own = torch.distributions.Normal(found.mean, torch.exp(0.5 * found.logvar))
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum((1, 2)).mean()
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(found.value, found.mean)


def test_the_sparse_terms_follow_their_formulas() -> None:
    z = torch.randn(30, 4, dtype=torch.float64) * 2 + 1
    short = (math.sqrt(4) - (z**2).sum(1)).clamp(min=0) + 0.01 * z.abs().sum(1)
    assert bottlenecks.energy(z, 0.01).item() == pytest.approx(short.mean().item())
    covariance = np.cov(z.numpy().T)
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    narrow = np.maximum(1 - np.sqrt(np.diag(covariance)), 0).mean()
    expected = 0.1 * narrow + 0.001 * off / 12 + 0.1 * (z.mean(0) ** 2).mean().item()
    assert bottlenecks.spread(z).item() == pytest.approx(expected, rel=1e-4)


def test_the_encoder_sees_both_pictures_moved_alike_and_a_hand_camera_not_at_all() -> None:
    first, second = (torch.from_numpy(squares(6, s).pictures[:6]) for s in (1, 2))
    draws = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    on_hand = torch.tensor([False] * 5 + [True])
    a, b = views(first, second, on_hand, draws, 0.3, 0.0)
    most = round(0.3 * 32)
    for n in range(6):
        by = [0, 0] if n == 5 else [math.floor(float(d) * (2 * most + 1)) - most for d in draws[n, :2]]
        for seen, real in ((a, first), (b, second)):
            assert torch.equal(seen[n], torch.roll(real[n], by, (0, 1)).permute(2, 0, 1).float() / 255)
    assert torch.equal(moved(first, torch.zeros(6, 2, dtype=torch.int64)), first)


def test_carrying_along_whole_pixels_moves_whole_pixels() -> None:
    maps = torch.rand(2, 3, 16, 16)
    flow = torch.zeros(2, 2, 16, 16)
    flow[:, 0], flow[:, 1] = 3.0, -2.0
    assert torch.allclose(carried(maps, flow)[:, :, 2:, :-3], maps[:, :, :-2, 3:], atol=1e-5)


def test_losses_of_what_is_right_are_nothing_and_weights_say_where_it_counts() -> None:
    pool = squares(6)
    sample = pool.sample(np.arange(6), both=True)
    first, second = (torch.from_numpy(p).permute(0, 3, 1, 2).float() / 255 for p in (sample.first, sample.second))
    there, back = torch.from_numpy(sample.forward), torch.from_numpy(sample.backward)  # type: ignore[arg-type]
    even = torch.ones(6, 1, 32, 32)
    assert losses.flow_loss(back, back, even).item() < losses.flow_loss(back + 1, back, even).item()
    assert losses.flow_loss(back.clamp(-4, 4), back, even).item() == pytest.approx(0, abs=1e-6)
    assert losses.texture_loss(second, second).item() == 0
    assert losses.texture_loss(second.roll(1, 3), second).item() > 0.01
    kept = losses.warp_loss(carried(first, back), first, there, back).item()
    assert kept == pytest.approx(0, abs=1e-6)
    motion = losses.changed(first, second, 0.08)
    weight = losses.weights(motion, torch.ones(6, 32, 32, dtype=torch.bool), 30.0, 10.0)
    assert set(weight.unique().tolist()) == {11.0, 41.0}
    basis = losses.cosines(8)
    assert torch.allclose(basis @ basis.T, torch.eye(8), atol=1e-5)


def test_residual_codes_come_closer_level_by_level(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    found = books.fit_books(latents, 8, 3)
    codes, distance = books.encode(latents, found)
    assert distance[:, 2] == pytest.approx(np.linalg.norm(latents - books.decode(codes, found), axis=1), abs=1e-5)
    assert (np.diff(distance.mean(0)) < 0).all()
    brute = np.linalg.norm(latents[:, None] - found[0], axis=2)
    assert np.array_equal(codes[:, 0], brute.argmin(1))
    save(tmp_path, TINY, build(TINY).state_dict(), found)
    assert np.array_equal(load_books(tmp_path), found)
    with pytest.raises(UsageError, match="too few"):
        books.fit_books(latents[:5], 8, 1)


def test_pairs_lie_a_horizon_apart_by_time() -> None:
    t_ns = np.array([0, 100, 200, 300, 420, 500], np.int64) * 1_000_000
    first, second, horizon = pairs_of(t_ns, (0.1, 0.3))
    assert [(a, b) for a, b, h in zip(first, second, horizon, strict=True) if h == 0] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert [(a, b) for a, b, h in zip(first, second, horizon, strict=True) if h == 1] == [(0, 3), (1, 4), (2, 5)]


def test_rates_rise_and_fall_and_settings_are_held_to_their_bounds() -> None:
    rates = [rate_at(s, TINY) for s in range(12)]
    assert max(rates) == pytest.approx(5e-3)
    assert rates[-1] < 0.1 * max(rates)
    assert sized("small").model.side == 128
    for wrong in (
        {"side": 48},
        {"horizons_s": "[0.4, 0.2]"},
        {"bottleneck": "magic"},
        {"stepz": 3},
        {"shift": 2.0},
        {"motion": -1.0},
    ):
        with pytest.raises(UsageError):
            TINY.changed(wrong)
    with pytest.raises(UsageError, match="fewer than one batch"):
        fit(squares(4), TINY)
    with pytest.raises(UsageError, match="need family=token"):
        build(TINY.changed({"target": "tests.support.latent_features:means"}))


def test_the_agent_is_where_the_last_mask_said() -> None:
    def clip(pictures: np.ndarray, t_ns: list[int]) -> Clip:
        number = np.arange(len(t_ns))
        return Clip(pictures, np.array(t_ns, np.int64), number, number)

    shown = clip(np.zeros((4, 8, 8, 3), np.uint8), [0, 10, 20, 30])
    values = np.zeros((2, 4, 4), np.uint8)
    values[0, :2, :2], values[1, 2:, 2:], values[:, 0, 3] = 5, 6, 9
    found = agent_in(shown, clip(values, [10, 25]), (5, 6), 8)
    assert not found[0].any()
    assert [f.sum() for f in found] == [0, 16, 16, 16]
    assert found[2, :4, :4].all()
    assert found[3, 4:, 4:].all()
    assert not agent_in(shown, None, (5,), 8).any()
