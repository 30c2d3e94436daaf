"""Small networks and their batches: everything random is drawn from a counter, so that a fit can be repeated."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.noise import raw

I64 = npt.NDArray[np.int64]


def mlp(sizes: Sequence[int], seed: int, *, zero_last: bool = False) -> Any:
    """Return a multilayer perceptron with SiLU between its layers; `zero_last` makes it start at 0."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[Any] = []
        for given, made in pairwise(sizes):
            layers += [torch.nn.Linear(given, made), torch.nn.SiLU()]
        net = torch.nn.Sequential(*layers[:-1])
    if zero_last:
        for parameter in net[-1].parameters():
            torch.nn.init.zeros_(parameter)
    return net


def batches(count: int, size: int, steps: int, seed: int) -> Iterator[I64]:
    """Yield `steps` batches of `size` distinct positions below `count` (all of them where there are fewer), epoch after epoch."""
    epoch, order, at = 0, np.empty(0, np.int64), 0
    for _ in range(steps):
        if at + size > len(order):
            order, at, epoch = np.argsort(raw([seed], epoch, count)[0], kind="stable"), 0, epoch + 1
        yield order[at : at + size]
        at += size


def draws(count: int, size: int, seed: int, step: int) -> I64:
    """Return `size` positions below `count`, with replacement."""
    return (raw([seed], step, size)[0] % np.uint64(count)).astype(np.int64)
