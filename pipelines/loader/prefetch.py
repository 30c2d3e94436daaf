"""Threads that read ahead: the batches of a sampler, in its order, filled while the trainer works on earlier ones.

Decoders release the GIL, so threads use the cores that worker processes would, without moving pixels between processes.
"""

import atexit
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

type Batch = dict[str, Any]
JOIN_S = 30.0  # how long shutting down waits for a batch that is being read


def prefetch(
    batches: Iterator[Sequence[int]], read: Callable[[Sequence[int]], Batch], *, threads: int, ahead: int
) -> Generator[Batch]:
    """Yield `read(positions)` for every item of `batches`, in order.

    At most `ahead` batches are finished or in the making beyond the one that was yielded last. An error of `read` is raised where
    its batch would have come. Threads end when the iterator is exhausted, closed, dropped or interrupted, and at exit.

    Args:
        batches: positions per batch; taken under a lock.
        read: called in the threads; without threads, by the consumer.
        threads: 0 reads in the consumer's own thread.
        ahead: at least 1.
    """
    if not threads:
        yield from map(read, batches)
        return
    state = _Ahead(batches, read, ahead)
    workers = [threading.Thread(target=_work, args=(state,), name=f"cotrain-read-{n}", daemon=True) for n in range(threads)]
    shut = partial(_shut, state, workers)
    atexit.register(shut)
    try:
        for worker in workers:
            worker.start()
        while state.more():
            yield state.take()  # no name holds the batch here: its memory is free once the consumer drops it
    finally:
        atexit.unregister(shut)
        shut()


class _Ahead:
    """What reader threads and their consumer share."""

    def __init__(self, batches: Iterator[Sequence[int]], read: Callable[[Sequence[int]], Batch], ahead: int) -> None:
        self.batches, self.read, self.ahead = batches, read, ahead
        self.changed = threading.Condition()
        self.finished: dict[int, Batch | BaseException] = {}
        self.started = self.taken = 0
        self.last: int | None = None  # number of batches, once it is known
        self.stopped = False

    def claim(self) -> tuple[int, Sequence[int]] | None:
        """Wait until there is room ahead, and return the next batch's number and positions; None: there is nothing left to do."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or self.last is not None or self.started < self.taken + self.ahead)
            if self.stopped or self.last is not None:
                return None
            number = self.started
            try:
                positions = next(self.batches)
            except StopIteration:
                self.last = number
            except BaseException as error:
                self.last, self.finished[number] = number + 1, error
            else:
                self.started += 1
                return number, positions
            self.changed.notify_all()
            return None

    def put(self, number: int, result: Batch | BaseException) -> None:
        """Hand in a batch, or why there is none."""
        with self.changed:
            if not self.stopped:
                self.finished[number] = result
            self.changed.notify_all()

    def more(self) -> bool:
        """Wait for the next batch in order, or for the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.taken in self.finished or self.taken == self.last)
            return self.taken in self.finished

    def take(self) -> Batch:
        """Return the batch that `more` waited for, or raise what kept it from being made."""
        with self.changed:
            result = self.finished.pop(self.taken)
            self.taken += 1
            self.changed.notify_all()
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self) -> None:
        """Let every thread end after what it is doing."""
        with self.changed:
            self.stopped = True
            self.finished.clear()
            self.changed.notify_all()


def _work(state: _Ahead) -> None:
    while (claimed := state.claim()) is not None:
        number, positions = claimed
        try:
            result: Batch | BaseException = state.read(positions)
        except BaseException as error:
            result = error
        state.put(number, result)
        del result


def _shut(state: _Ahead, workers: list[threading.Thread]) -> None:
    state.stop()
    for worker in workers:
        if worker.ident is not None:
            worker.join(JOIN_S)
