"""A model with weights keeps the annotator contract: the fingerprint follows them, batches may only move last digits, memory may run out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

import pipelines.annotate.memory as memory
from annotators.base import Batch, fingerprint, uses_gpu
from annotators.clips import Look, Needs, no_clip, stack
from annotators.evaluation import QualityReport, not_measurable
from annotators.spans import nothing, span_table
from annotators.weights import hash_weights, load_weights
from pipelines.annotate.memory import Room, run_within
from schemas.annotation import annotation_schema
from schemas.contract import Contract
from tests.annotators.pictures.test_picture_quality import film
from tests.contracts.annotator import AnnotatorContract


@lru_cache
def network(weights: str, seal: str) -> Any:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    net.load_state_dict(load_weights(weights))
    return net.eval()


@dataclass(frozen=True)
class Features:
    """Four numbers per step from a tiny network; `limit` pictures at once are too many."""

    weights: str
    camera: str = "front"
    limit: int = 10**9

    name: ClassVar[str] = "features"
    version: ClassVar[str] = "1"
    covers: ClassVar[str] = "steps"
    on_gpu: ClassVar[bool] = True
    provides: ClassVar[pa.Schema] = pa.schema([pa.field("feature", pa.list_(pa.float32(), 4))])

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(**settings)

    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "limit"}

    def fingerprint(self) -> str:
        plain = {k: v for k, v in self.settings().items() if k != "weights"}  # where they lie does not matter
        return fingerprint(self.name, self.version, plain, hash_weights(self.weights), ("torch",))

    def needs(self, contract: Contract) -> Needs:
        return Needs(tuple(Look(c.name, (32, 32)) for c in contract.cameras if c.name == self.camera), context_s=0.0)

    def requires(self, contract: Contract) -> tuple[str, ...]:
        return tuple(f"rgb:{look.camera}" for look in self.needs(contract).looks)

    def run(self, batch: Batch) -> pa.Table:
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        if self.camera not in batch.clips:
            return nothing(self, batch, "no_such_camera")
        clips = batch.clips[self.camera]
        if batch.at_once > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        pictures, mask = stack(clips)
        values = np.full((batch.steps.num_rows, 4), np.nan, np.float32)
        for place, clip in enumerate(clips):
            if len(clip):
                found = self._features(pictures[place][mask[place]], batch.at_once)
                values[batch.starts[place] : batch.starts[place + 1]] = found[clip.seen]
        good = np.isfinite(values).all(1)
        rows, reasons = np.arange(len(values)), [None if ok else "no_picture" for ok in good]
        own = pa.FixedSizeListArray.from_arrays(pa.array(np.nan_to_num(values).reshape(-1)), 4, mask=pa.array(~good))
        return span_table(self, batch, rows, rows + 1, reasons, {"feature": own})  # type: ignore[arg-type]

    def _features(self, pictures: np.ndarray, at_once: int) -> np.ndarray:
        net, found = network(self.weights, *hash_weights(self.weights)), []
        for start in range(0, len(pictures), at_once):
            images = torch.from_numpy(pictures[start : start + at_once]).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                found.append(net(images).numpy())
        return np.concatenate(found)

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        return (not_measurable("features", "nobody knows what they should be"),)


def written(path: Path, seed: int) -> str:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(seed)
    save_file({"0.weight": torch.randn(4, 3, 8, 8, generator=draw), "0.bias": torch.randn(4, generator=draw)}, path)
    return str(path)


class TestContract(AnnotatorContract):
    tolerance = 1e-5

    @pytest.fixture
    def annotator(self, tmp_path: Path) -> Any:
        return Features(written(tmp_path / "one.safetensors", 1))

    @pytest.fixture
    def changed(self, annotator: Features) -> Any:
        return replace(annotator, camera="wrist")

    @pytest.fixture
    def reweighted(self, tmp_path: Path) -> Any:
        return Features(written(tmp_path / "two.safetensors", 2))

    @pytest.fixture
    def rates(self) -> dict[int, Batch]:
        return {hz: film(hz) for hz in (10, 20)}

    @pytest.fixture
    def spoilt(self, rates: dict[int, Batch]) -> Batch:
        batch = rates[10].take([0, 1])
        return replace(batch, clips={c: (no_clip(len(have[0].seen)), have[1]) for c, have in batch.clips.items()})


def test_the_same_weights_elsewhere_are_the_same_annotator(tmp_path: Path) -> None:
    here, there = (Features(written(tmp_path / n, 1)) for n in ("a.safetensors", "b.safetensors"))
    assert here.fingerprint() == there.fingerprint()
    assert uses_gpu(here)  # type: ignore[arg-type]


def test_a_device_out_of_memory_gives_the_model_fewer_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_rooms", {})
    roomy = Features(written(tmp_path / "a.safetensors", 1))
    tight, room, batch = replace(roomy, limit=9), Room(), film(20)
    seen: list[int] = []

    def check(part: Batch, rows: pa.Table) -> pa.Table:
        seen.append(len(part.episodes))
        return rows

    pieces = run_within(tight, batch, room, check)  # type: ignore[arg-type]
    assert (room.halvings, room.at_once, sum(seen)) == (3, 8, 3)
    values = np.concatenate([np.array(t["feature"].to_pylist()) for t in pieces])
    assert values == pytest.approx(np.array(roomy.run(batch)["feature"].to_pylist()), rel=1e-4, abs=1e-5)
