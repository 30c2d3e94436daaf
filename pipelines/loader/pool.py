"""Memory that is used again once nobody looks at it: batch buffers and decoded blocks, without page faults and without surprises.

A block of memory goes back to its pool when the last array or tensor on it is gone, never earlier: a batch that a trainer keeps
stays as it is, and the pool makes new memory instead.
"""

import ctypes
import sys
import weakref
from collections import defaultdict, deque
from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]


class _Lease:
    """What arrays on a pool's memory hold on to. Numpy would collapse a chain of views to the memory itself, but not through this."""

    __slots__ = ("__weakref__", "_memory")

    def __init__(self, memory: U8) -> None:
        self._memory = memory

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._memory)


class Pool:
    """Recycles memory by size; any thread may take. Keeps at most `keep` unused pieces of each size.

    With `pinned`, memory is page-locked, and is filled again only after the copies to the GPU that the dropping thread's current
    stream had been given are through.
    """

    def __init__(self, keep: int, *, pinned: bool = False) -> None:
        self._keep, self._pinned = keep, pinned
        self._free: dict[int, deque[tuple[U8, Any]]] = defaultdict(deque)
        self.made = 0  # pieces of memory ever allocated

    def take(self, size: int) -> U8:
        """Return uint8[size], contents undefined."""
        memory, event = self._unused(size) or (self._allocate(size), None)
        if event is not None:
            event.synchronize()
        lease = _Lease(memory)
        weakref.finalize(lease, self._give_back, memory).atexit = False
        return np.frombuffer(lease, np.uint8)[:size]

    def _unused(self, size: int) -> tuple[U8, Any] | None:
        """Return the smallest unused memory that is large enough, but not of more than twice the size."""
        if same := self._free.get(size):
            try:
                return same.pop()
            except IndexError:
                pass  # another thread was faster
        for known in sorted(k for k in list(self._free) if size <= k <= 2 * size):
            try:
                return self._free[known].pop()
            except IndexError:
                continue
        return None

    def _allocate(self, size: int) -> U8:
        self.made += 1
        if not self._pinned:
            return np.empty(size, np.uint8)
        import torch

        return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()

    def _give_back(self, memory: U8) -> None:
        # Runs wherever the last reference is dropped, also inside the garbage collector: only atomic operations, no lock.
        free = self._free[len(memory)]
        if len(free) < self._keep:
            free.append((memory, self._event()))

    def _event(self) -> Any:
        if not self._pinned:
            return None
        import torch

        event = torch.cuda.Event()
        event.record()
        return event


def give_back() -> None:
    """Give memory that decoders have freed back to the system.

    The C library keeps it for the thread that used it; after a few threads have come and gone, that is more than is in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # not every C library has it
        trim(0)
