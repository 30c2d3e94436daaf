"""Stand-ins for real data: a LeRobot v3.0 set written by LeRobot itself, and egocentric clips with narrations but without actions.

A machine without real recordings still has three kinds of sources to show. Both come from the simulators, from other tasks and scenes
than a recording's defaults, and each is complete or absent: a killed run leaves nothing under its name.
"""

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.executors import Execution, run_all
from pipelines.record.layout import TEMPORARY, episode_key
from pipelines.record.record import episodes, open_simulator, resolve
from pipelines.record.render import choose_backend
from pipelines.record.rollout import F64, Rollout
from pipelines.record.spec import RecordSpec
from pipelines.record.writer import write_mp4
from schemas.contract import Contract
from schemas.errors import WorkerCrashError

SEED = 1000  # scenes no default recording plays
LEROBOT_TASKS = {"metaworld": ("window-open-v3", "faucet-open-v3"), "pusht": ("push-t",)}
EGO_TASKS = {"metaworld": ("window-close-v3", "drawer-close-v3", "faucet-open-v3"), "pusht": ("push-t",)}
NARRATIONS = "narrations.csv"
NARRATION_COLUMNS = ("file", "start_s", "end_s", "text")
MOVED_M, TURNED_RAD = 0.02, 0.1  # an object that never gets further was not handled
LEROBOT_SPEC = RecordSpec(episodes=2, seed=SEED, size=96, hz=20, segmentation_hz=0)
EGO_SPEC = RecordSpec(episodes=1, seed=SEED, size=192, hz=20, cameras=("ego",), segmentation_hz=0, gop=30)


@dataclass(frozen=True, slots=True)
class DemoSet:
    """What was written, or was there already (`fresh` false; the counts are then zero)."""

    path: Path
    fresh: bool
    simulator: str = ""
    episodes: int = 0
    frames: int = 0


def write_lerobot_set(out: str | Path, spec: RecordSpec = LEROBOT_SPEC) -> DemoSet:
    """Write a LeRobot v3.0 dataset to the folder `out` through LeRobot's own recording interface, in a process of its own.

    Args:
        out: the dataset's root; nothing happens if it exists.
        spec: what to play; without tasks, `LEROBOT_TASKS` of the simulator that works here.

    Raises:
        DependencyError: no simulator works on this machine.
        WorkerCrashError: the process died, or LeRobot failed; the message ends with what LeRobot said last.
    """
    target = Path(out).expanduser()
    if target.exists():
        return DemoSet(target, fresh=False)
    spec = _ready(spec, LEROBOT_TASKS)
    with _aside(target) as folder:
        # LeRobot's encoders and progress bars write to stderr, and it leaves libav's log callback changed: not in our process.
        log = folder.with_name("stderr.txt")
        [(_, result)] = run_all(_lerobot_apart, [(spec, str(folder), str(log))], Execution(workers=1))
        if isinstance(result, WorkerCrashError):
            said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
            raise WorkerCrashError(f"LeRobot did not write {target}: {result}. {' '.join(said)}", uri=str(target)) from result
    return replace(result, path=target)


def write_ego_clip(out: str | Path, spec: RecordSpec = EGO_SPEC, *, on_episode: Callable[[str], None] | None = None) -> DemoSet:
    """Write one egocentric mp4 per episode and `narrations.csv` (`file,start_s,end_s,text`) to the folder `out`.

    Each clip has two narrations whose border is the moment at which the simulator saw the object begin to move.

    Args:
        out: the folder; nothing happens if it exists.
        spec: what to play; without tasks, `EGO_TASKS` of the simulator that works here. Its first camera is shown.
        on_episode: told the key of each episode as it is saved.

    Raises:
        DependencyError: no simulator works on this machine.
    """
    target = Path(out).expanduser()
    if target.exists():
        return DemoSet(target, fresh=False)
    spec, count, frames = _ready(spec, EGO_TASKS), 0, 0
    with _aside(target) as folder:
        folder.mkdir()
        with (folder / NARRATIONS).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(NARRATION_COLUMNS)
            for _, rollout in _play(spec):
                name = f"{episode_key(rollout.task, rollout.seed)}.mp4"
                pictures = rollout.frames[spec.cameras[0]]
                write_mp4(folder / name, pictures, spec.hz, gop=spec.gop)
                table.writerows((name, f"{start:.3f}", f"{end:.3f}", text) for start, end, text in narrate(rollout))
                count, frames = count + 1, frames + len(pictures)
                if on_episode:
                    on_episode(episode_key(rollout.task, rollout.seed))
    return DemoSet(target, True, spec.simulator, count, frames)


def narrate(rollout: Rollout) -> list[tuple[float, float, str]]:
    """Return `(start_s, end_s, text)`: reaching out until an object is being moved, then the task; one line if none ever is."""
    end = len(rollout.reward) / rollout.hz
    text = rollout.instruction if rollout.success else f"try to {rollout.instruction}"
    handled = [at for s in rollout.streams if s.name.startswith("object_pose.") and (at := handled_from(s.values)) is not None]
    contact = min(handled, default=0) / rollout.hz
    spans = [(0.0, contact, f"reach out to {rollout.instruction}"), (contact, end, text)]
    return [span for span in spans if span[1] > span[0]]


def handled_from(poses: F64) -> int | None:
    """Return the first step at which an object is clearly on its way; None if it stays where it is.

    Args:
        poses: float64[T, 7], metres and quaternion wxyz.

    That is where it is a tenth of its longest way from where it began: objects settle by a few millimetres when a scene starts.
    """
    away = np.linalg.norm(poses[:, :3] - poses[0, :3], axis=1)
    turned = 2 * np.arccos(np.clip(np.abs(poses[:, 3:] @ poses[0, 3:]), 0, 1))
    moves = [(away, MOVED_M), (turned, TURNED_RAD)]
    first = [int(np.argmax(m > m.max() / 10)) for m, least in moves if m.max() > least]
    return min(first, default=None)


def _ready(spec: RecordSpec, tasks: dict[str, tuple[str, ...]]) -> RecordSpec:
    asked = spec.tasks
    spec, _ = resolve(spec)
    if not asked:
        spec = replace(spec, tasks=tasks.get(spec.simulator, spec.tasks))
    return replace(spec, gl=choose_backend(spec.gl)) if spec.simulator == "metaworld" else spec


def _play(spec: RecordSpec) -> Iterator[tuple[Contract, Rollout]]:
    simulator = open_simulator(spec)
    try:
        contract = simulator.contract(spec.tasks)
        for task, scene in episodes(spec):
            yield contract, simulator.run(task, scene)
    finally:
        simulator.close()


@contextmanager
def _aside(target: Path) -> Generator[Path]:
    """Yield a path that does not exist yet; what is there at the end becomes `target` in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{target.name}-", dir=target.parent))
    try:
        yield scratch / target.name
        (scratch / target.name).rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lerobot_apart(spec: RecordSpec, folder: str, log: str) -> DemoSet:
    """Write the set with everything this process says going to the file `log`; runs in a worker process."""
    with Path(log).open("wb") as file:
        os.dup2(file.fileno(), 2)
    return _write_lerobot(spec, Path(folder))


def _write_lerobot(spec: RecordSpec, folder: Path) -> DemoSet:
    dataset: Any = None
    count = frames = 0
    for contract, rollout in _play(spec):
        dataset = dataset or _create_lerobot(folder, contract, spec)
        for step in range(len(rollout.reward)):
            dataset.add_frame(_lerobot_frame(rollout, step))
        dataset.save_episode(parallel_encoding=False)
        count, frames = count + 1, frames + sum(len(f) for f in rollout.frames.values())
    dataset.finalize()
    shutil.rmtree(folder / "images", ignore_errors=True)  # LeRobot's staging folder, empty by now
    return DemoSet(folder, True, spec.simulator, count, frames)


def _create_lerobot(folder: Path, contract: Contract, spec: RecordSpec) -> Any:
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    columns: dict[str, Any] = {f.name: {"dtype": f.dtype, "shape": f.shape, "names": list(f.names)} for f in contract.features}
    shape = (spec.size, spec.size, 3)
    names = ["height", "width", "channels"]
    cameras = {f"observation.images.{c}": {"dtype": "video", "shape": shape, "names": names} for c in spec.cameras}
    outcome = {"next.reward": {"dtype": "float32", "shape": (1,), "names": None}}
    return LeRobotDataset.create(
        repo_id="cotrain/demo",
        fps=spec.hz,
        features=columns | cameras | outcome,
        root=folder,
        robot_type=contract.embodiment,
        rgb_encoder=RGBEncoderConfig(vcodec="h264"),
    )


def _lerobot_frame(rollout: Rollout, step: int) -> dict[str, Any]:
    columns = {name: values[step] for name, values in rollout.columns.items()}
    cameras = {f"observation.images.{camera}": frames[step] for camera, frames in rollout.frames.items()}
    return {**columns, **cameras, "next.reward": rollout.reward[step : step + 1], "task": rollout.instruction}
