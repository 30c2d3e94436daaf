"""Makes finished files visible in the lake, atomically: a name either does not exist or holds the whole file.

Local: temporary file beside the target, fsync, hard link (fails if the name exists), fsync of the folder. Elsewhere: a local
temporary file, then one put of the finished bytes.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from catalog.lake import Lake

TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file in the lake. `path` is relative to the lake's root."""

    path: str
    bytes: int
    blake3: str


@contextmanager
def temporary_for(lake: Lake, target: str) -> Generator[Path]:
    """Yield a local path to write `target`'s bytes to; whatever is still there afterwards is removed."""
    if lake.is_local:
        final = Path(target.removeprefix("file://"))
        final.parent.mkdir(parents=True, exist_ok=True)
        path = final.with_name(f"{final.name}{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}")
    else:
        path = Path(tempfile.mkdtemp(prefix="cotrain-")) / target.rsplit("/", 1)[-1]
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if not lake.is_local:
            shutil.rmtree(path.parent)


def publish(lake: Lake, temporary: Path, target: str) -> PublishedFile:
    """Give the finished file at `temporary` its name in the lake.

    Units are deterministic, so a file that already has the name came from an earlier try at the same unit: equal bytes are kept,
    other bytes (an orphan of another code version, a non-deterministic model) are replaced in one step.
    """
    seal = seal_of(temporary)
    published = PublishedFile(lake.relative(target), temporary.stat().st_size, seal)
    if not lake.is_local:
        lake.fs.put_file(str(temporary), target)
        return published
    final = Path(target.removeprefix("file://"))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(temporary, final)
    except FileExistsError:
        if seal_of(final) == seal:
            os.utime(final)  # it is as good as new: garbage collection leaves young files alone
        else:
            temporary.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return published


def publish_bytes(lake: Lake, data: bytes, target: str) -> PublishedFile:
    """Publish `data` as one small file."""
    with temporary_for(lake, target) as path:
        path.write_bytes(data)
        return publish(lake, path, target)


def seal_of(path: Path) -> str:
    """Return the BLAKE3 hex digest of a local file, mapped rather than read."""
    hasher = blake3(max_threads=blake3.AUTO)
    if path.stat().st_size:
        hasher.update_mmap(path)
    return hasher.hexdigest()


def is_intact(lake: Lake, file: PublishedFile) -> bool:
    """Tell whether the lake still holds exactly `file`."""
    path = lake.path(file.path)
    if lake.is_local:
        local = Path(path.removeprefix("file://"))
        return local.is_file() and local.stat().st_size == file.bytes and seal_of(local) == file.blake3
    if not lake.fs.exists(path) or lake.fs.size(path) != file.bytes:
        return False
    hasher = blake3()
    with lake.fs.open(path, "rb") as stream:
        while chunk := stream.read(8 << 20):
            hasher.update(chunk)
    return hasher.hexdigest() == file.blake3
