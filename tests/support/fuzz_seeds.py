"""The small healthy sources that fuzzing starts from: name -> (kind of adapter, function that writes it into a folder)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer

from tests.pipelines.sources import (
    test_gaze_aria,
    test_gaze_ego4d,
    test_gaze_egtea,
    test_gaze_hot3d,
    test_gaze_neon,
    test_gaze_pupil,
    test_gaze_tobii,
    test_zarr,
)
from tests.pipelines.sources.test_lerobot_v1 import write_v1
from tests.support import bags, hdf5, rlds
from tests.support.lerobot_rich import write_rich_v3
from tests.support.lerobot_sets import write_media, write_v2
from tests.support.video import write_video

QUIET: dict[str, Any] = {"x265-params": "log-level=none"}
GOP: dict[str, Any] = {"g": "4", "bf": "0"}


def seeds() -> dict[str, tuple[str, Callable[[Path], Any]]]:
    """Every healthy source by name; the part of the name before the dash is what counts are kept for."""
    return {
        "mp4-h264": ("human_video", _narrated),
        "mp4-sound": ("human_video", lambda p: write_media(p / "a.mp4", range(8), 20, sound=True, **GOP)),
        "mp4-hevc": ("human_video", lambda p: write_media(p / "a.mp4", range(6), 20, codec="libx265", **QUIET)),
        "mp4-mkv": ("human_video", lambda p: write_video(p / "a.mkv", list(range(8)), g="4")),
        "mp4-av1": ("human_video", lambda p: write_video(p / "a.webm", list(range(4)), codec="libsvtav1", preset="12", g="2")),
        "mp4-avi": ("human_video", lambda p: write_video(p / "a.avi", list(range(6)), codec="mjpeg", pixels="yuvj420p")),
        "parquet-v1": ("lerobot", write_v1),
        "parquet-v2": ("lerobot", lambda p: write_v2(p, (5, 4))),
        "parquet-v3": ("lerobot", write_rich_v3),
        "tfrecord-plain": ("rlds", lambda p: rlds.write_dataset(p, lengths={"train": (3, 2)})),
        "tfrecord-rich": ("rlds", lambda p: rlds.write_dataset(p, rlds.RICH, rlds.rich_values, lengths={"train": (2, 2)})),
        "hdf5-robomimic": ("hdf5", lambda p: hdf5.robomimic(p / "a.hdf5", (0, 2), steps=2)),
        "hdf5-libero": ("hdf5", lambda p: hdf5.libero(p / "a_demo.hdf5", steps=2)),
        "hdf5-aloha": ("hdf5", lambda p: hdf5.aloha(p / "episode_0.hdf5", steps=3)),
        "hdf5-robotwin": ("hdf5", lambda p: hdf5.robotwin2(p, steps=3)),
        "hdf5-maniskill": ("hdf5", lambda p: hdf5.maniskill(p, numbers=(0, 4), steps=2)),
        "hdf5-egodex": ("hdf5", hdf5.egodex),
        "hdf5-droid": ("hdf5", hdf5.droid),
        "mcap-zstd": ("bag", lambda p: bags.write_mcap(p / "a.mcap", bags.robot(0.4))),
        "mcap-plain": ("bag", lambda p: bags.write_mcap(p / "a.mcap", bags.robot(0.3), compression="none")),
        "rosbag-sqlite": ("bag", lambda p: bags.write_rosbag2(p / "a", bags.robot(0.4))),
        "rosbag-ros1": ("bag", lambda p: bags.write_ros1(p / "a.bag", bags.robot(0.4, store=bags.ROS1))),
        "rosbag-lz4": ("bag", lambda p: bags.write_ros1(p / "a.bag", bags.robot(0.4, store=bags.ROS1), Ros1Writer.CompressionFormat.LZ4)),
        "zarr-v2": ("zarr", lambda p: test_zarr.write(p / "a.zarr", test_zarr.PUSHT)),
        "zarr-v3": ("zarr", lambda p: test_zarr.write(p / "a.zarr", test_zarr.UMI, form=3)),
        "zarr-zip": ("zarr", lambda p: test_zarr.write(p / "a.zarr.zip", test_zarr.UMI)),
        "gaze-neon": ("neon", test_gaze_neon.recording),
        "gaze-aria": ("aria", lambda p: test_gaze_aria.write(p, ARIA)),
        "gaze-cloud": ("pupil", test_gaze_pupil.cloud),
        "gaze-core": ("pupil", test_gaze_pupil.core),
        "gaze-g3": ("tobii", test_gaze_tobii.g3),
        "gaze-g2": ("tobii", test_gaze_tobii.g2),
        "gaze-egtea": ("egtea", test_gaze_egtea.dataset),
        "gaze-ego4d": ("ego4d_gaze", test_gaze_ego4d.recording),
        "gaze-hot3d": ("hot3d", lambda p: test_gaze_hot3d.tar(p / "train_aria" / "clip-000001.tar", test_gaze_hot3d.clip_files())),
    }  # fmt: skip


ARIA = {
    "rec/mps/eye_gaze/general_eye_gaze.csv": test_gaze_aria.GAZE,
    "rec/mps/slam/closed_loop_trajectory.csv": test_gaze_aria.POSES,
}


def _narrated(folder: Path) -> None:
    write_video(folder / "a.mp4", list(range(12)), **GOP)
    rows = "".join(f"a.mp4,{t},{t + 0.2},step {t}\n" for t in np.arange(0, 0.5, 0.1).round(1).tolist())
    (folder / "narrations.csv").write_text("file,start_s,end_s,text\n" + rows)
    (folder / "EPIC_100_train.csv").write_text(
        "narration_id,participant_id,video_id,narration,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class\n"
        "a_0,P01,a,open door,00:00:00.10,00:00:00.40,open,3,door,3\n"
    )
