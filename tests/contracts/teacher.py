"""What every teacher promises. Inherit `TeacherContract` and override its fixtures."""

from typing import Any

import pytest
import torch

from pipelines.residuals.config import CacheConfig
from pipelines.residuals.keys import cache_key, cache_parts
from pipelines.residuals.teacher import Teacher


class TeacherContract:
    @pytest.fixture
    def teacher(self) -> Any:
        """The teacher under test."""
        raise AssertionError("override this fixture")

    @pytest.fixture
    def batch(self) -> Any:
        """A batch of two or more samples as the loader gives them."""
        raise AssertionError("override this fixture")

    def ask(self, teacher: Teacher, batch: Any, privileged: bool, seed: int = 0) -> tuple[dict[str, Any], Any]:
        spec, generator = teacher.spec, torch.Generator().manual_seed(seed)
        with torch.no_grad():
            ready = teacher.prepare(batch)
            count = len(ready["action"])
            aux = {name: torch.randn((count, *shape), generator=generator) for name, shape in spec.aux_noise.items()}
            aux |= {f"tau_{name}": torch.rand(count, generator=generator) for name in spec.aux_noise}
            point = torch.randn((count, spec.horizon, spec.width), generator=generator)
            tau = torch.rand(count, generator=generator)
            return ready, teacher.velocity(teacher.encode(ready, aux), point, tau, privileged=privileged)

    def test_says_everything_its_key_needs(self, teacher: Teacher) -> None:
        spec = teacher.spec
        assert spec.weights_sha
        assert spec.code_sha
        assert spec == teacher.spec
        assert cache_key(cache_parts(spec, CacheConfig())) == cache_key(cache_parts(teacher.spec, CacheConfig()))

    def test_reads_what_it_says_it_reads(self, teacher: Teacher, batch: Any) -> None:
        needs = teacher.needs
        assert needs.keys is None or set(needs.keys) <= set(batch)
        assert needs.deltas is None or "action" not in needs.deltas or len(needs.deltas["action"]) == teacher.spec.horizon

    def test_prepares_actions_and_padding_and_leaves_the_batch_alone(self, teacher: Teacher, batch: Any) -> None:
        before = {k: v.clone() if isinstance(v, torch.Tensor) else list(v) for k, v in batch.items()}
        ready, _ = self.ask(teacher, batch, privileged=True)
        assert ready["action"].shape[1:] == (teacher.spec.horizon, teacher.spec.action_dim)
        assert (ready["action"].dtype, ready["action_is_pad"].dtype) == (torch.float32, torch.bool)
        assert ready["action_is_pad"].shape == ready["action"].shape[:2]
        assert set(teacher.spec.privileged) <= set(ready)
        assert set(before) == set(batch)
        assert all(torch.equal(v, batch[k]) if isinstance(v, torch.Tensor) else v == list(batch[k]) for k, v in before.items())

    def test_answers_one_chunk_per_sample_the_same_every_time(self, teacher: Teacher, batch: Any) -> None:
        ready, first = self.ask(teacher, batch, privileged=True)
        _, second = self.ask(teacher, batch, privileged=True)
        assert first.shape[:2] == ready["action"].shape[:2]
        assert first.shape[2] in (teacher.spec.action_dim, teacher.spec.width)
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)

    def test_is_as_exact_in_float32_as_it_says(self, teacher: Teacher, batch: Any) -> None:
        _, first = self.ask(teacher, batch, privileged=True)
        with teacher.precise():
            _, exact = self.ask(teacher, batch, privileged=True)
        _, after = self.ask(teacher, batch, privileged=True)
        assert torch.equal(first, after)
        if teacher.spec.dtype == "float32":
            assert torch.equal(first, exact)
