"""What running a model over pictures cost: where the time went, on which device, and how often memory ran out."""

from collections.abc import Iterable, Mapping
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


def total(units: Iterable[tuple[float, Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Sum up the seconds and `Effort.columns` of several units, shares weighed by time; None if none of them measured any."""
    known = [(s, m) for s, m in units if "device_busy" in m]
    if not known:
        return None
    seconds = sum(s for s, _ in known) or 1.0
    return {
        "device": ", ".join(sorted({m["device"] for _, m in known})),
        "wait_share": sum(s * m["wait_share"] for s, m in known) / seconds,
        "model_seconds": sum(m["model_seconds"] for _, m in known),
        "device_busy": sum(s * m["device_busy"] for s, m in known) / seconds,
        "halvings": sum(m["halvings"] for _, m in known),
        "at_once": min(m["at_once"] for _, m in known),
    }


def in_words(effort: Mapping[str, Any]) -> str:
    """Say it in one line."""
    halved = f", memory ran out {effort['halvings']} times: {effort['at_once']} pictures at once" if effort["halvings"] else ""
    return f"{effort['device']} {effort['device_busy']:.0%} busy, {effort['wait_share']:.0%} of the time waiting for pictures{halved}"
