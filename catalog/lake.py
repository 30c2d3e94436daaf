"""Where things are in a lake: a root URL and the paths below it. Holds no data and opens no table."""

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from catalog.storage import check_options, check_root, fsspec_options, storage_options
from schemas.errors import UnsafePathError
from schemas.ids import is_slug

DEFAULT_ROOT = "./lake"


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake's root (any fsspec URL) and its storage options. Equal and picklable, so units carry it to workers.

    Credentials belong in the environment or in the file that `$COTRAIN_STORAGE` names (see `catalog.storage`); `storage_options` is
    never shown, logged or written into the catalog.

    Raises:
        UsageError: the root's URL carries credentials, or an option means nothing to its store.
    """

    root: str
    storage_options: dict[str, str] = field(default_factory=dict[str, str], repr=False, hash=False)

    def __post_init__(self) -> None:
        check_root(self.root)
        check_options(self.root, self.storage_options)

    @classmethod
    def at(cls, root: str | os.PathLike[str] | None = None) -> "Lake":
        """Return the lake at `root`, else at `$COTRAIN_LAKE`, else at `./lake`. Local roots become absolute.

        Raises:
            UsageError: see `Lake`; or the file of storage options cannot be read.
        """
        text = os.fspath(root) if root is not None else os.environ.get("COTRAIN_LAKE", DEFAULT_ROOT)
        if not urlsplit(text).scheme:
            text = str(Path(text).expanduser().resolve())
        check_root(text)
        return cls(text.rstrip("/"), storage_options(text))

    @property
    def fs(self) -> Any:
        """The fsspec filesystem of the root."""
        return fsspec.core.url_to_fs(self.root, **fsspec_options(self.root, self.storage_options))[0]

    @property
    def is_local(self) -> bool:
        """Whether files can be memory-mapped in place."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, *parts: str) -> str:
        """Join `parts` below the root.

        Raises:
            UnsafePathError: a part is empty, absolute or climbs out of the lake.
        """
        for part in parts:
            pieces = part.split("/")
            if not part or part.startswith("/") or ".." in pieces or "\\" in part or "\0" in part:
                raise UnsafePathError(f"{part!r} may not name a place in the lake {self.root}: names stay below the root")
        return posixpath.join(self.root, *parts)

    def files(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return every file at or below a folder of the lake, with what its store says of it; none where there is no such folder."""
        root = self.path(folder)
        return self.fs.find(root, detail=True) if self.fs.exists(root) else {}

    def relative(self, uri: str) -> str:
        """Return `uri` relative to the root; catalog rows store this form so that a lake can be moved."""
        prefix = self.root + "/"
        if not uri.startswith(prefix):
            raise UnsafePathError(f"{uri} is not inside the lake {self.root}")
        return uri[len(prefix) :]

    def table(self, name: str) -> str:
        """Path of a catalog table."""
        return self.path("catalog", name)

    def shard(self, dataset: str, shard: str, kind: str) -> str:
        """Path of one shard file; `kind` is `steps`, `packets` or `streams`."""
        return self.path("shards", _slug(dataset), f"{shard}.{kind}.arrow")

    def annotation(self, annotator: str, fingerprint: str, shard: str) -> str:
        """Path of one annotator's side table for one shard."""
        return self.path("annotations", _slug(annotator), fingerprint, f"{shard}.parquet")

    def residual(self, teacher: str, cache_key: str, unit: str) -> str:
        """Path of one residual cache shard."""
        return self.path("residuals", _slug(teacher), cache_key, f"{unit}.arrow")

    def mixture(self, name: str, mixture_hash: str) -> str:
        """Folder of one pinned mixture."""
        return self.path("mixtures", _slug(name), mixture_hash)

    def attempts(self, source: str, unit: str) -> str:
        """Path of the attempt trees one unit of a source made."""
        return self.path("attempts", _slug(source), f"{unit}.arrow")

    def memory(self, name: str, unit: str) -> str:
        """Path of one embedding memory."""
        return self.path("memories", _slug(name), f"{unit}.arrow")

    def receipt(self, unit: str) -> str:
        """Path of a finished but not yet committed unit's receipt."""
        return self.path("receipts", f"{unit}.json")

    def report(self, name: str) -> str:
        """Path of a report."""
        return self.path("reports", name)


def _slug(name: str) -> str:
    if not is_slug(name):
        raise UnsafePathError(
            f"{name!r} cannot name a dataset, annotator, teacher or mixture: use lower-case letters, digits, '.', '_' and '-'"
        )
    return name
