"""Weights of models: hashed for fingerprints and loaded without running code that a file brings along."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from schemas.errors import UsageError

TOLD = "cotrain"


def hash_weights(*paths: str | Path) -> tuple[str, ...]:
    """Return the BLAKE3 of each file; of a folder, of every file below it by name. Unchanged files are hashed once per process.

    Raises:
        UsageError: one does not exist.
    """
    return tuple(_hash_tree(Path(p).expanduser()) for p in paths)


def load_weights(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """Return the tensors of a `.safetensors` file, or of a torch file that holds tensors and plain values only.

    Raises:
        UsageError: the file is missing, or holds anything else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"weights {file} do not exist")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file, device=device)
        import torch

        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:
        raise UsageError(f"weights {file} cannot be read safely: {error}; save them as safetensors") from error


def save_weights(tensors: Mapping[str, Any], path: Path, told: Mapping[str, str]) -> None:
    """Write tensors as safetensors, the same bytes for the same input; `told` says how they were made, see `read_told`.

    It goes into one entry of the header: safetensors writes several in an order that changes from call to call.
    """
    from safetensors.torch import save_file

    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(plain, str(path), metadata={TOLD: json.dumps(dict(told), sort_keys=True)})


def read_told(path: str | Path) -> dict[str, str]:
    """Return what `save_weights` was told of a file, without its tensors; nothing of files of other makers.

    Raises:
        UsageError: the file is missing, or no safetensors.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"weights {file} do not exist")
    try:
        with safe_open(str(file), "np") as opened:
            return json.loads((opened.metadata() or {}).get(TOLD, "{}"))
    except (SafetensorError, ValueError) as error:
        raise UsageError(f"weights {file} cannot be read: {error}") from error


def _hash_tree(path: Path) -> str:
    if path.is_file():
        return _hash_file(path, path.stat().st_size, path.stat().st_mtime_ns)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise UsageError(f"weights {path} do not exist, or the folder is empty")
    whole = blake3()
    for file in files:
        whole.update(f"{file.relative_to(path).as_posix()}\0{_hash_tree(file)}\n".encode())
    return whole.hexdigest()


@lru_cache(maxsize=256)
def _hash_file(path: Path, _bytes: int, _changed_ns: int) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    if path.stat().st_size:
        hasher.update_mmap(path)
    return hasher.hexdigest()
