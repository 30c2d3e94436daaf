"""Where models run: choosing a device, the precision on it, and telling apart errors that mean *out of memory*."""

from collections.abc import Generator
from contextlib import contextmanager

from schemas.errors import DependencyError, UsageError

_KNOWN = ("auto", "cpu", "cuda")


def choose_device(wanted: str = "auto") -> str:
    """Return `cpu` or `cuda[:n]`; `auto` takes a GPU where torch sees one.

    Raises:
        UsageError: the name is unknown, or a GPU is asked for where there is none.
    """
    check_name(wanted)
    if wanted == "cpu":
        return "cpu"
    try:
        import torch
    except ImportError as error:
        if wanted == "auto":
            return "cpu"
        raise DependencyError(f"--device {wanted} needs the package torch") from error
    there = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if there else "cpu"
    number = wanted.partition(":")[2] or "0"
    if not there or not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {wanted}: torch sees {torch.cuda.device_count() if there else 'no'} GPU here; use --device auto"
        )
    return wanted


def check_name(wanted: str) -> None:
    """Check the name of a device without looking for it.

    Raises:
        UsageError: there is no such kind of device.
    """
    if wanted.partition(":")[0] not in _KNOWN:
        raise UsageError(f"device {wanted!r} is unknown; use auto, cpu, cuda or cuda:<number>")


@contextmanager
def inference(device: str) -> Generator[None]:
    """Run what is inside without gradients, on a GPU in bfloat16 where that is safe; torch is only touched on a GPU or if loaded.

    Heads that need single precision (distances, normalisation, subtractions) turn it off with `torch.autocast(..., enabled=False)`.
    """
    import sys

    if device == "cpu" and "torch" not in sys.modules:
        yield
        return
    import torch

    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device, or this machine, ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    return type(error).__name__ == "OutOfMemoryError" and type(error).__module__.partition(".")[0] == "torch"


def free_memory(device: str) -> None:
    """Hand memory that torch keeps for later back to the device, so that a smaller try finds it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def utilisation(device: str) -> float | None:
    """Return the share of the last moment in which the GPU worked, 0 to 1, as its driver counts it; None where nobody does."""
    if not device.startswith("cuda"):
        return None
    import torch

    try:
        return torch.cuda.utilization(torch.device(device)) / 100
    except (ImportError, RuntimeError, AttributeError):
        return None  # no pynvml, or a driver without counters
