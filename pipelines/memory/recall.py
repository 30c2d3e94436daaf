"""Asks a memory with words or a picture."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from annotators.device import choose_device
from annotators.embeddings.embedding import EmbeddingConfig
from annotators.embeddings.encoders import ReadsTexts, SeesPictures, open_encoder
from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.executors import Execution
from pipelines.memory.build import MemoryStage
from pipelines.memory.search import F32
from pipelines.memory.store import open_memory
from pipelines.shards.reader import open_shard
from pipelines.unit import run_stage
from schemas.errors import LakeError, UsageError
from schemas.settings import parse_settings

KINDS = ("picture", "text")


def build_memory(lake: Lake, name: str, what: str, settings: Mapping[str, Any]) -> int:
    """Embed what is not embedded yet and gather it; return the memory's rows.

    Raises:
        LakeError: nothing could be embedded.
    """
    run_stage(AnnotateStage.named(lake, "embedding", what, settings), execution=Execution(workers=0))
    encoder, chosen = open_encoder(parse_settings(EmbeddingConfig, settings).encoder), tuple(sorted(settings.items()))
    rows, why = 0, f"encoder {type(encoder).__name__} encodes nothing here"
    for kind in KINDS:
        report = run_stage(MemoryStage(lake, name, kind, what, chosen), execution=Execution(workers=0))
        if report.rejects:
            why = report.rejects[0].message  # there is nothing of this kind
        else:
            rows += len(open_memory(lake, name, kind))
    if not rows:
        raise LakeError(f"memory {name} was not built: {why}")
    return rows


def recall(lake: Lake, name: str, k: int, *, text: str = "", frame: str = "") -> list[dict[str, Any]]:
    """Return the `k` nearest entries, best first: score, episode, seconds, camera, task, success, text.

    Words are compared with texts, or with pictures where the encoder knows both; a picture is compared with pictures.

    Raises:
        UsageError: the memory's encoder cannot read what was asked, or holds nothing of the kind.
    """
    listed = Catalog(lake).latest("memories").filter(pl.col("name") == name).collect()
    if listed.is_empty():
        open_memory(lake, name, KINDS[0])  # says what there is
    config = parse_settings(EmbeddingConfig, json.loads(listed["settings"][0]))
    vector, kinds = _query(lake, config, text, frame)
    found: list[dict[str, Any]] = []
    for kind in (k for k in kinds if k in listed["kind"].to_list() or len(kinds) == 1):
        memory = open_memory(lake, name, kind)
        near = memory.ask(vector, k, str(listed["model"][0]), once=True)
        found += [_answer(memory.entry(int(r)), float(s)) for r, s in zip(near.rows[0], near.scores[0], strict=True) if r >= 0]
    return sorted(found, key=lambda f: -f["score"])[:k]


def _query(lake: Lake, config: EmbeddingConfig, text: str, frame: str) -> tuple[F32, tuple[str, ...]]:
    """Return the vector asked with, and the kinds it may be compared with."""
    encoder, device = open_encoder(config.encoder), choose_device("auto")
    if not text:
        if not isinstance(encoder, SeesPictures):
            raise UsageError(f"encoder {config.encoder} sees no pictures; ask with words")
        return encoder.pictures(_picture(lake, frame, config.side), device), ("picture",)
    if not isinstance(encoder, ReadsTexts):
        raise UsageError(f"encoder {config.encoder} reads no texts; ask with --frame")
    return encoder.texts([text], device), KINDS if getattr(encoder, "joint", False) else ("text",)


def _answer(entry: dict[str, Any], score: float) -> dict[str, Any]:
    return {
        "score": round(score, 4), "episode_id": entry["episode_id"], "seconds": round((entry["start_ns"] or 0) * 1e-9, 3),
        "camera": entry["camera"], "task": entry["payload"].get("task"), "success": entry["payload"].get("success"),
        "kind": entry["kind"], "said": entry["said"],
    }  # fmt: skip


def _picture(lake: Lake, frame: str, side: int) -> Any:
    """Read a picture file, or what an episode's camera shows at a time, scaled as the annotator scales."""
    picture = _of_episode(lake, frame) if "@" in frame else _of_file(frame)
    import cv2

    scale = side / max(picture.shape[:2])
    if scale < 1:
        size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return picture[None]


def _of_file(path: str) -> Any:
    from torchvision.io import ImageReadMode, decode_image

    return np.ascontiguousarray(decode_image(path, ImageReadMode.RGB).permute(1, 2, 0).numpy())


def _of_episode(lake: Lake, frame: str) -> Any:
    episode, seconds, *camera = frame.split("@")
    rows = Catalog(lake).latest("episodes").filter(pl.col("episode_id").str.starts_with(episode)).collect()
    if rows.height != 1:
        raise UsageError(f"--frame {frame}: {rows.height} episodes begin with {episode!r}")
    try:
        at = float(seconds)
    except ValueError as error:
        raise UsageError(f"--frame {frame}: {seconds!r} is not a number of seconds") from error
    row = rows.row(0, named=True)
    shard = open_shard(lake, row["dataset"], row["shard"])
    cameras = camera or shard.cameras(row["episode_id"])
    if not cameras:
        raise LakeError(f"{row['episode_id']} has no camera")
    steps = shard.episode_steps(row["episode_id"])
    step = max(int(np.searchsorted(steps.column("t_ns").to_numpy(), round(at * 1e9), side="right")) - 1, 0)
    number = steps.column(f"frame.{cameras[0]}")[step].as_py()
    if number < 0:
        raise UsageError(f"--frame {frame}: camera {cameras[0]} shows nothing at {at} s")
    return shard.read(row["episode_id"], cameras[0], [number])[0]
