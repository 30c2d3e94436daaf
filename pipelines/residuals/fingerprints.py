"""What a model is, as hashes: its tensors, its code, the files and statistics it is used with. Any change of any of them shows."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from schemas.errors import UsageError
from schemas.ids import canonical_json

SIZE = 16  # bytes of every digest: 32 hexadecimal digits


def digest_of(value: object) -> str:
    """Return the BLAKE2b digest of a value's canonical JSON."""
    return hashlib.blake2b(canonical_json(value), digest_size=SIZE).hexdigest()


def tensors_digest(*groups: Mapping[str, Any]) -> str:
    """Hash named tensors or arrays: sorted names, dtypes, shapes and bytes. Several groups (a model, its frozen parts) hash as one."""
    hasher = hashlib.blake2b(digest_size=SIZE)
    for number, group in enumerate(groups):
        for name in sorted(group):
            kind, shape, data = _plain(group[name])
            hasher.update(f"{number}\0{name}\0{kind}\0{shape}\0".encode())
            hasher.update(data)
    return hasher.hexdigest()


def _plain(value: Any) -> tuple[str, list[int], memoryview]:
    """Return dtype, shape and bytes; torch tensors of any dtype, bfloat16 included."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        held = value.detach().cpu().contiguous()
        data = held.reshape(-1).view(torch.uint8).numpy() if held.numel() else np.empty(0, np.uint8)
        return str(held.dtype), list(held.shape), memoryview(data)
    held = np.ascontiguousarray(value)
    return str(held.dtype), list(held.shape), memoryview(held.reshape(-1).view(np.uint8)) if held.size else memoryview(b"")


def module_tensors(module: Any) -> dict[str, Any]:
    """Return a module's parameters and buffers, those included that its `state_dict` leaves out."""
    return {**dict(module.named_parameters()), **{f"buffer:{n}": b for n, b in module.named_buffers()}}


def code_digest(*objects: Callable[..., Any] | type) -> str:
    """Hash the source text of functions and classes, with their qualified names.

    Raises:
        UsageError: one of them has no source to read (built at a prompt, say).
    """
    texts: list[list[str]] = []
    for item in objects:
        try:
            texts.append([item.__module__, item.__qualname__, inspect.getsource(item)])
        except (OSError, TypeError) as error:
            raise UsageError(
                f"the code of {item!r} cannot be read ({error}), so it cannot be part of a cache's key; keep it in a file"
            ) from error
    return digest_of(texts)


def files_digest(paths: Iterable[Path]) -> str:
    """Hash files by name and content, in order of their names."""
    return digest_of([[p.name, hashlib.blake2b(p.read_bytes(), digest_size=SIZE).hexdigest()] for p in sorted(paths)])


def environment(*packages: str) -> dict[str, Any]:
    """Return what of the software decides the last bits: torch's and each package's major and minor version, and TF32."""
    import torch

    found: dict[str, Any] = {name: _minor(name) for name in ("torch", *packages)}
    found["tf32"] = [bool(torch.backends.cuda.matmul.allow_tf32), bool(torch.backends.cudnn.allow_tf32)]
    return found


def _minor(package: str) -> str:
    try:
        return ".".join(version(package).split("+")[0].split(".")[:2])
    except PackageNotFoundError:
        return "absent"
