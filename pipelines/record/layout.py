"""Names inside a recording folder, shared by the code that writes one and the code that reads it.

recording.json                        format, contract, simulator, spec
episodes/<task>-<scene>/episode.json  facts, and the seal of every other file
                        steps.parquet
                        streams.parquet
                        <camera>.mp4
                        segmentation.<camera>/<t_ns>.png
                        depth.<camera>/<t_ns>.png
episodes/<task>-<scene>~<factor>/     the same states rendered again with one factor changed; the same files
"""

import re

FORMAT = "cotrain-recording"
FORMAT_VERSION = 1
RECORDING = "recording.json"
EPISODES = "episodes"
EPISODE = "episode.json"
STEPS = "steps.parquet"
STREAMS = "streams.parquet"
TEMPORARY = ".tmp-"  # an episode folder still being written
TIME_DIGITS = 15  # of a mask's name, nanoseconds: sorts as text for episodes of up to eleven days


def video_name(camera: str) -> str:
    """Return the file that holds `camera`'s pictures."""
    return f"{camera}.mp4"


def mask_name(camera: str, t_ns: int) -> str:
    """Return the file that holds the mask `camera` took at `t_ns`."""
    return f"{camera}/{t_ns:0{TIME_DIGITS}}.png"


def episode_key(task: str, scene: int, factor: str = "") -> str:
    """Name an episode after what determines it; `factor` is what a counterfactual changed."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', task)}-{scene}" + (f"~{factor}" if factor else "")
