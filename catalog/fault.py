"""Recognising that the lake's own disk is full, read-only or forbidden, and saying so: no unit's input is at fault, and none is quarantined."""

import errno
import os
import re
from collections.abc import Generator
from contextlib import contextmanager

from catalog.lake import Lake
from schemas.errors import CotrainError, LakeError

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "raise the quota or free some space",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "mount it writable",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how delta-rs and object_store end their sentences


@contextmanager
def lake_faults(lake: Lake) -> Generator[None]:
    """Turn errors of the lake's disk into one sentence.

    Raises:
        LakeError: the disk is full, read-only, or may not be written.
    """
    try:
        yield
    except CotrainError:
        raise
    except Exception as error:
        if (code := _code(error, lake.root)) is None:
            raise
        raise LakeError(
            f"cannot write to the lake {lake.root}: {os.strerror(code)}; {_ADVICE[code]} and run the same command again: "
            "what is finished is kept"
        ) from error


def _code(error: BaseException, root: str) -> int | None:
    """Return the number of a fault of the lake's disk. Rights are the lake's only where the error names a file of it."""
    if isinstance(error, OSError) and error.errno in _ADVICE:
        ours = str(error.filename or "").startswith(root) or str(error.filename2 or "").startswith(root)
        return error.errno if ours or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS) else None
    if type(error).__module__.partition(".")[0] in ("deltalake", "_internal", "builtins", "pyarrow"):
        found = _OS_ERROR.search(str(error))
        if found and int(found[1]) in _ADVICE:
            return int(found[1])
    return None
