"""Batches on the training device are the batches of the process, pictures in the units that were asked for."""

import pytest
import torch

from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from schemas.errors import UsageError
from schemas.mixture import WindowSpec
from tests.support.mixtures import toy_spec

FRONT = "observation.images.front"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


@pytest.fixture(scope="module")
def mixed(toys):
    mix(
        toys,
        toy_spec("carried", samples=40, statistics=False, windows=WindowSpec(observation_s=(-0.1, 0.0), action_horizon_s=0.4)),
    )
    return load("carried", toys)


def check(mixed, device: str, *, floats: bool) -> None:
    plain = list(mixed.loader(8))
    loader = mixed.loader(8, device=device, floats=floats)
    kept = list(loader)  # all of them: none may be overwritten by a later one
    assert loader.state()["position"] == 40
    assert [b["index"].tolist() for b in kept] == [b["index"].tolist() for b in plain]
    for wanted, found in zip(plain, kept, strict=True):
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            if not isinstance(value, torch.Tensor):
                assert found[key] == value
                continue
            assert found[key].device.type == device
            is_float = floats and ".images." in key and not key.endswith("_is_pad")
            expected = value.float() / 255 if is_float else value
            assert found[key].dtype == expected.dtype
            assert torch.allclose(found[key].cpu(), expected, rtol=0, atol=1e-7 if is_float else 0)
    assert (kept[0][FRONT].max() <= 1) == floats


@pytest.mark.parametrize("floats", [False, True])
def test_batches_on_the_cpu(mixed, floats):
    check(mixed, "cpu", floats=floats)


@needs_gpu
@pytest.mark.parametrize("floats", [False, True])
def test_batches_on_a_gpu(mixed, floats):
    check(mixed, "cuda", floats=floats)


def test_the_state_is_that_of_the_batches_given(mixed):
    loader = mixed.loader(8, device="cpu", floats=True)
    batches = iter(loader)
    first = next(batches)
    assert loader.state()["position"] == 8
    rest = mixed.loader(8, device="cpu", resume=loader.state())
    assert next(iter(rest))["index"].tolist() == [i + 8 for i in first["index"].tolist()]


def test_a_device_that_is_not_there_is_said(mixed):
    with pytest.raises(UsageError, match="use auto, cpu, cuda"):
        mixed.loader(8, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="torch sees no GPU"):
            mixed.loader(8, device="cuda")
