"""What must be equal on both sides for results to be equal byte for byte: Python, this package's code, and what writes files."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.errors import UsageError

PACKAGES = ("cotrain", "pyarrow", "polars", "deltalake", "numpy", "av", "torch", "distributed")
ROOMS = ("schemas", "transforms", "annotators", "catalog", "pipelines")


@cache
def versions() -> dict[str, str]:
    """Return the versions of this process; `code` is a digest of the rooms' source files."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "code": _code()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def check_same(theirs: Mapping[str, Mapping[str, str]], where: str, ours: Mapping[str, str] | None = None) -> None:
    """Compare the versions of workers with `ours`.

    Args:
        theirs: per worker address what `versions` says there.
        where: the cluster's address.
        ours: what they must be; this process's by default.

    Raises:
        UsageError: they differ; the message names worker, package and both versions.
    """
    ours = versions() if ours is None else ours
    for worker, its in sorted(theirs.items()):
        if wrong := {name: (its.get(name, "absent"), here) for name, here in ours.items() if its.get(name) != here}:
            text = ", ".join(f"{name} {there} instead of {here}" for name, (there, here) in wrong.items())
            raise UsageError(
                f"the Dask worker {worker} of {where} has {text}; results would depend on where a unit runs. "
                "Install the same versions there and restart its workers"
            )


def _code() -> str:
    """Digest every source file of the rooms: versions of an installed checkout do not change with its files."""
    root, hasher = Path(__file__).resolve().parents[2], hashlib.blake2b(digest_size=8)
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            hasher.update(path.relative_to(root).as_posix().encode())
            hasher.update(path.read_bytes())
    return hasher.hexdigest()
