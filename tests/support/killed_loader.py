"""A training process whose DataLoader worker is killed with SIGKILL: writes down each batch it got, then dies of it.

A process of its own, because torch reports a dead worker from a signal handler, wherever the main thread happens to be.
"""

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

BATCH, KILL_AFTER = 6, 3
KEYS = ("action", "observation.images.front")


def seal(sample: dict[str, Any]) -> str:
    """Hash what a sample says: episode, numbers, pictures and masks."""
    names = sorted(k for k in sample if k.startswith(("action", "observation", "index", "frame_index")))
    parts = [sample["episode_id"].encode(), *(sample[k].numpy().tobytes() for k in names)]
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def seals(batch: dict[str, Any]) -> list[str]:
    """Hash each sample of a collated batch."""
    return [seal({k: v[i] for k, v in batch.items()}) for i in range(len(batch["index"]))]


def main(lake: str, mixture: str, workers: int, out: Path) -> None:
    """Read batches, kill the first worker after some, and go on as if nothing had happened."""
    from torch.utils.data import DataLoader

    from pipelines.loader.load import load

    dataset = load(mixture, lake, keys=KEYS)
    options: dict[str, Any] = {"collate_fn": dataset.collate, "num_workers": workers, "multiprocessing_context": "spawn"}
    stream: Any = iter(DataLoader(dataset, batch_sampler=dataset.batches(BATCH), **options))
    with out.open("w") as lines:
        for number, batch in enumerate(stream, 1):
            lines.write(" ".join(seals(batch)) + "\n")
            lines.flush()
            if number == KILL_AFTER:
                os.kill(stream._workers[0].pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
