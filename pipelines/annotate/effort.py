"""What running a model over pictures cost: where the time went, on which device, and how often memory ran out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Effort:
    """How the work of one unit went.

    Attributes:
        device: where the model ran.
        seconds: from the first picture asked for to the last row.
        wait_s: of them, waiting for the decoder.
        model_s: of them, inside the annotator.
        busy: share of the time in which the device worked, 0 to 1: as the GPU's driver counts it, else `model_s / seconds`.
        halvings: how often memory ran out and the batch was halved.
        at_once: pictures given to the model at once in the end.
    """

    device: str
    seconds: float
    wait_s: float
    model_s: float
    busy: float
    halvings: int
    at_once: int

    def columns(self) -> dict[str, Any]:
        """Return its columns of the catalog's table `runs`."""
        return {
            "device": self.device, "wait_share": self.wait_s / self.seconds if self.seconds else 0.0, "model_seconds": self.model_s,
            "device_busy": self.busy, "halvings": self.halvings, "at_once": self.at_once,
        }  # fmt: skip


def total(efforts: Iterable[Effort | None]) -> Effort | None:
    """Add up the efforts of several units; None where none of them ran a model."""
    known = [e for e in efforts if e is not None]
    if not known:
        return None
    seconds = sum(e.seconds for e in known)
    busy = sum(e.busy * e.seconds for e in known) / seconds if seconds else 0.0
    devices = ", ".join(sorted({e.device for e in known}))
    return Effort(
        devices, seconds, sum(e.wait_s for e in known), sum(e.model_s for e in known), busy, sum(e.halvings for e in known),
        min(e.at_once for e in known),
    )  # fmt: skip


def in_words(effort: Effort) -> str:
    """Say it in one line."""
    share = effort.wait_s / effort.seconds if effort.seconds else 0.0
    halved = f", memory ran out {effort.halvings} times: {effort.at_once} pictures at once" if effort.halvings else ""
    return f"{effort.device}: {effort.busy:.0%} busy, {share:.0%} waiting for pictures{halved}"
