"""Test-decodes a track before it is written, so that a broken file is found at ingest and not in the middle of a training run.

Every packet's inner lengths are checked first, which costs a microsecond each; then the first and last picture are decoded, or all.
"""

from typing import Literal

import numpy as np
import pyarrow as pa

from pipelines.shards.bitstream import first_malformed
from pipelines.shards.decode import Track, decode_masks, decode_rgb
from pipelines.shards.draft import TrackDraft
from pipelines.shards.writer import key_rows
from schemas.errors import CorruptMediaError
from schemas.shards import TrackInfo

CHUNK = 64  # pictures held at once


def check_decodes(draft: TrackDraft, level: Literal["none", "ends", "all"], *, uri: str, episode: str) -> None:
    """Decode the first and last picture of `draft` (`ends`), every picture (`all`), or nothing.

    Raises:
        CorruptMediaError: a picture does not decode; the message names the file, the camera and the frame.
    """
    if level == "none" or draft.header.kind != "video" or draft.frames == 0:
        return
    _check_lengths(draft, uri, episode)
    frames = np.arange(draft.frames) if level == "all" else np.unique([0, draft.frames - 1])
    track = as_track(draft, uri, episode)
    decode = decode_masks if draft.header.codec == "png" else decode_rgb
    for start in range(0, len(frames), CHUNK):
        try:
            decode(track, frames[start : start + CHUNK])
        except CorruptMediaError as error:
            error.uri, error.episode = uri, episode
            raise


def _check_lengths(draft: TrackDraft, uri: str, episode: str) -> None:
    """Find overwritten or shifted bytes between the decoded ends, by the lengths inside every packet."""
    row = first_malformed(draft.header, draft.data)
    if row is not None:
        raise CorruptMediaError(
            f"{uri}: frame {int(draft.frame[row])} of camera {draft.camera}, episode {episode}: its packet (row {row}) is damaged: "
            "the lengths inside it do not add up to its size",
            uri=uri,
            episode=episode,
        )


def as_track(draft: TrackDraft, uri: str, episode: str) -> Track:
    """View a draft's packets the way a shard's are viewed."""
    batch = pa.record_batch(
        {
            "frame": pa.array(draft.frame, pa.int32()),
            "pts_ns": pa.array(draft.pts_ns, pa.int64()),
            "key_row": pa.array(key_rows(draft), pa.int64()),
            "data": pa.array(draft.data, pa.large_binary()),
        }
    )
    info = TrackInfo(episode, draft.camera, 0, 0, len(draft.data), draft.frames, "", draft.header)
    return Track(info, batch, uri)
