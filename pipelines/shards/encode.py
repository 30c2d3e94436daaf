"""Raw frames to packets, for data that never was a video: simulators, raw pixel arrays, segmentation masks.

The settings are the measured ones: x264 `veryfast`, no B-frames, `tune=fastdecode`; intra-only for random training reads, GOP 8 for
archives. Source bytes that are already encoded never come through here.
"""

import io
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from pipelines.shards.demux import read_header
from pipelines.shards.draft import I64, TrackDraft
from schemas.errors import ContractError
from schemas.shards import CodecHeader

X264 = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "bf": "0"}


def encode_h264(camera: str, frames: npt.NDArray[np.uint8], t_ns: I64, fps: int, *, gop: int = 8) -> TrackDraft:
    """Encode RGB frames uint8[T, H, W, 3] as H.264 (yuv420p), one packet per frame.

    Raises:
        ContractError: width or height is odd, which 4:2:0 cannot hold.
    """
    count, height, width = frames.shape[:3]
    if width % 2 or height % 2:
        raise ContractError(f"{camera}: {width}x{height} is odd and H.264 4:2:0 needs even sides; crop or pad by one pixel")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=fps, options=X264 | {"g": str(gop), "keyint_min": str(gop)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for i in range(count):
            picture = av.VideoFrame.from_ndarray(frames[i], format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        source = container.streams.video[0]
        header = read_header(source)
        packets = [(p.is_keyframe, bytes(p)) for p in container.demux(source) if p.size]
    return TrackDraft(
        camera, header, np.arange(count, dtype=np.int32), t_ns, np.array([k for k, _ in packets]), [d for _, d in packets]
    )


def encode_png(camera: str, masks: npt.NDArray[Any], t_ns: I64) -> TrackDraft:
    """Encode integer images (uint8 or uint16 [T, H, W]) losslessly as PNG packets, each its own keyframe."""
    data = [cv2.imencode(".png", m, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes() for m in masks]
    height, width = masks.shape[1:3]
    header = CodecHeader("png", width=width, height=height, pix_fmt="gray" if masks.dtype == np.uint8 else "gray16be")
    return TrackDraft(camera, header, np.arange(len(data), dtype=np.int32), t_ns, np.ones(len(data), bool), data)
