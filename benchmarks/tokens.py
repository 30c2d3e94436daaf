"""FAST encoding of action chunks on one core: cotrain's codec against the ways it is done elsewhere, of the same chunks.

A *chunk* is one second of seven dimensions at 20 Hz, smooth as recorded actions are (and, second, at 50 Hz). The peers:

- a plain loop: `scipy.fft.dct` per chunk, rounded, spelt, `tokenizers` one call per chunk, with the same merges;
- the public FAST processor's algorithm, written here from its description: the same loop over a byte-level tokenizer of its own
  training, which clamps what lies outside its alphabet.

"Checked" is what the annotator does: it decodes every chunk again and holds it to its bound.

    python -m benchmarks.tokens [--quick]
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import goal, main, measure, take_turns

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core
DIMS, SCALE, SIZE = 7, 10.0, 1024
GOAL = 20_000


def smooth(count: int, horizon: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return normalised chunks float64[count, horizon, 7]: three slow waves each, and a gripper that switches."""
    rng = np.random.default_rng(seed)
    t, shape = np.linspace(0, 1, horizon)[None, :, None], (count, 1, DIMS)
    x = np.zeros((count, horizon, DIMS))
    for _ in range(3):
        x += rng.normal(size=shape) * np.sin(2 * np.pi * rng.uniform(0.05, 1.2, shape) * t + rng.uniform(0, 2 * np.pi, shape))
    x /= np.abs(x).max(1, keepdims=True)
    x[:, :, -1] = np.sign(x[:, :, -1])
    return x


def public_processor(
    chunks: np.ndarray[Any, np.dtype[np.float64]],
) -> Callable[[np.ndarray[Any, np.dtype[np.float64]]], list[int]]:
    """Return the encoder of the public processor's algorithm, fitted on chunks."""
    from scipy.fft import dct
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.trainers import BpeTrainer

    coded = np.rint(dct(chunks, axis=1, norm="ortho") * SCALE).astype(int)
    low, high = int(coded.min()), int(coded.max())
    texts = ["".join(map(chr, row - low)) for row in coded.reshape(len(coded), -1)]
    tokenizer = ByteLevelBPETokenizer()
    trainer = BpeTrainer(
        vocab_size=SIZE, min_frequency=2, show_progress=False, special_tokens=[],
        initial_alphabet=[chr(i) for i in range(high - low + 1)], max_token_length=10_000,
    )  # fmt: skip
    tokenizer._tokenizer.train_from_iterator(texts, trainer)

    def encode(chunk: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
        row = np.rint(dct(chunk, axis=0, norm="ortho") * SCALE).reshape(-1)
        return tokenizer.encode("".join(map(chr, np.maximum(row - low, 0).astype(int)))).ids

    return encode


def cases(horizon: int, count: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Encode the same chunks in every way, taking turns."""
    from scipy.fft import dct

    from transforms.codec import fast
    from transforms.codec.action import ActionCodec
    from transforms.codec.affine import Affine
    from transforms.codec.fast import FastCodec, coefficients

    chunks = smooth(count, horizon, 1)
    vocabulary = fast.learn([coefficients(smooth(5000, horizon, 0), SCALE)], SIZE)
    codec = FastCodec(horizon, DIMS, SCALE, vocabulary)
    whole = ActionCodec(Affine((-1.0,) * DIMS, (1.0,) * DIMS), codec)
    single, public = vocabulary._tokenizer, public_processor(smooth(5000, horizon, 0))
    few = chunks[: max(200, count // 5)]

    def plain() -> float:
        for chunk in few:
            row = np.rint(dct(chunk, axis=0, norm="ortho") * SCALE).astype(int).reshape(-1)
            clipped = np.clip(row, vocabulary.low, vocabulary.high)
            single.encode("".join(chr(0x100 + v - vocabulary.low) for v in clipped.tolist())).ids  # noqa: B018
        return len(few)

    def theirs() -> float:
        for chunk in few:
            public(chunk)
        return len(few)

    def ours(encode: Callable[[Any], Any]) -> Callable[[], float]:
        return lambda: len(chunks) + 0 * len(encode(chunks).tokens if encode == whole.encode else encode(chunks))

    found = take_turns(
        {
            "cotrain": lambda: measure(ours(codec.encode)),
            "cotrain, checked": lambda: measure(ours(whole.encode)),
            "loop of scipy.fft and tokenizers": lambda: measure(plain),
            "public FAST processor's algorithm": lambda: measure(theirs),
        },
        rounds,
    )
    tokens = {"cotrain": float(codec.encode(chunks).counts.mean()), "public": float(np.mean([len(public(c)) for c in few]))}
    rows = [t.row("chunks", horizon=horizon) for t in found.values()]
    rows.append({"case": "tokens per chunk", "horizon": horizon, **{k: round(v, 1) for k, v in tokens.items()}})
    mine = found["cotrain"].per_cpu_s
    return rows, {
        "rate": mine,
        "plain": mine / found["loop of scipy.fft and tokenizers"].per_cpu_s,
        "public": mine / found["public FAST processor's algorithm"].per_cpu_s,
    }


def run(quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure 20 Hz, and unless quick, 50 Hz too."""
    rows, first = cases(20, 4000 if quick else 20_000, 5)
    goals = [
        goal("chunks per second and core, 20 Hz", f"above {GOAL}", first["rate"], first["rate"] > GOAL),
        goal("over a loop of scipy.fft and tokenizers, 20 Hz", "above 1", first["plain"], first["plain"] > 1),
        goal("over the public processor's algorithm, 20 Hz", "above 1", first["public"], first["public"] > 1),
    ]
    if not quick:
        more, second = cases(50, 8000, 5)
        rows += more
        goals.append(goal("chunks per second and core, 50 Hz", f"above {GOAL}", second["rate"], second["rate"] > GOAL))
        goals.append(goal("over the public processor's algorithm, 50 Hz", "above 1", second["public"], second["public"] > 1))
    return rows, goals


if __name__ == "__main__":
    main("tokens", __doc__ or "", run)
