"""Weights enter fingerprints and are never unpickled; devices are chosen or refused."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from annotators.base import fingerprint
from annotators.device import choose_device, inference, is_out_of_memory, utilisation
from annotators.weights import hash_weights, load_weights, read_told, save_weights
from schemas.errors import UsageError


def test_a_fingerprint_follows_everything_the_rows_depend_on() -> None:
    plain = fingerprint("a", "1", {"x": 1})
    others = [
        fingerprint("b", "1", {"x": 1}), fingerprint("a", "2", {"x": 1}), fingerprint("a", "1", {"x": 2}),
        fingerprint("a", "1", {"x": 1}, ("w",)), fingerprint("a", "1", {"x": 1}, libraries=("torch",)),
        fingerprint("a", "1", {"x": 1}, libraries=("no-such-library",)),
    ]  # fmt: skip
    assert len({plain, *others}) == 7
    assert fingerprint("a", "1", {}, ("v", "w")) == fingerprint("a", "1", {}, ("w", "v"))


def test_weights_are_hashed_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(b"a")
    before = hash_weights(tmp_path, tmp_path / "one.bin")
    assert before == hash_weights(tmp_path, tmp_path / "one.bin")
    (tmp_path / "one.bin").write_bytes(b"bb")
    assert all(a != b for a, b in zip(before, hash_weights(tmp_path, tmp_path / "one.bin"), strict=True))
    with pytest.raises(UsageError, match="do not exist"):
        hash_weights(tmp_path / "none")


def test_weights_are_read_without_running_code(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(3.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pt")
    assert all(torch.equal(load_weights(tmp_path / n)["w"], tensors["w"]) for n in ("a.safetensors", "a.pt"))

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # pyright: ignore[reportReturnType]

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "none.pt"):
        with pytest.raises(UsageError, match="weights"):
            load_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_device_is_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="sees no GPU"):
        choose_device("cuda")
    with pytest.raises(UsageError, match="unknown"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match="sees 2 GPU"):
        choose_device("cuda:2")


def test_inference_has_no_gradients_and_full_precision_on_a_cpu() -> None:
    with inference("cpu"):
        result = torch.ones(2, requires_grad=True) @ torch.ones(2)
    assert not result.requires_grad
    assert result.dtype == torch.float32
    assert utilisation("cpu") is None


def test_running_out_of_memory_is_told_apart() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("other"))


def test_equal_weights_are_equal_bytes_and_say_how_they_were_made(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2).T}
    told = {"format": "toy", "spec": "{}", "sizes": "[1]"}
    written = []
    for n in range(8):
        save_weights(tensors, tmp_path / f"{n}.safetensors", told)
        written.append((tmp_path / f"{n}.safetensors").read_bytes())
    assert len(set(written)) == 1
    assert read_told(tmp_path / "0.safetensors") == told
    assert torch.equal(load_weights(tmp_path / "0.safetensors")["b"], tensors["b"])
    save_file({"a": tensors["a"]}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    assert read_told(tmp_path / "other.safetensors") == {}
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UsageError, match=r"broken\.safetensors cannot be read"):
        read_told(tmp_path / "broken.safetensors")
    with pytest.raises(UsageError, match="do not exist"):
        read_told(tmp_path / "none.safetensors")
