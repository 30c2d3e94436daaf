"""Segments against the phases of Meta-World's scripted experts: the branch of its code that each expert took at every step.

Prints what `cotrain annotate --with segments --evaluate` would say if recordings held those phases: boundary F1 against as many segments of one
length, gripper only, and random, with and without the poses of objects. Nothing is rendered.

    python benchmarks/segments_metaworld.py [task ...] [--episodes 8]
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from annotators.base import Batch
from annotators.segments.config import SegmentsConfig
from annotators.segments.segments import Segments
from pipelines.record.album import Album
from pipelines.record.factors import Variation
from pipelines.record.metaworld import ACTION, CONTROL_HZ, POSE_NAMES, STATE, Log, Stage, to_base
from pipelines.record.spec import RecordSpec
from schemas.contract import Contract, Feature
from tests.support.motion import batch_of

TASKS = ("pick-place-v3", "door-open-v3", "button-press-topdown-v3")
PHASE = Feature("sim.phase", "float32", (1,), role="privileged", privileged=True)


class Blind(Log):
    """A log that takes no pictures."""

    def see(self, step: int) -> None:  # noqa: ARG002 - as the log it stands in for
        return


class Traced:
    """An expert that remembers the last line of `_desired_pos` it ran."""

    def __init__(self, expert: Any) -> None:
        self.expert, self.lines = expert, list[int]()

    def get_action(self, observation: Any) -> Any:
        last = [0]

        def inside(frame: FrameType, event: str, _: Any) -> Any:
            last[0] = frame.f_lineno if event == "line" else last[0]
            return inside

        before = sys.gettrace()
        sys.settrace(lambda frame, *_: inside if frame.f_code.co_name == "_desired_pos" else None)
        try:
            return self.expert.get_action(observation)
        finally:
            sys.settrace(before)
            self.lines.append(last[0])


def play(stage: Stage, spec: RecordSpec, seed: int) -> tuple[dict[str, np.ndarray], bool]:
    """Play one episode and half a second more; columns float[D, T], and whether it succeeded."""
    log = Blind(spec, stage, stage.reset(seed, Variation()), Album(spec), Variation())
    expert, every, solved_at = Traced(stage.policy()), CONTROL_HZ // spec.hz, None
    for step in range(stage.env.max_path_length // every):
        log.look(step)
        done, _ = log.act(expert, every)
        solved_at = step if done and solved_at is None else solved_at
        if solved_at is not None and step - solved_at >= spec.hz // 2:
            break
    hands, objects = np.stack(log.hands), np.stack(log.objects)
    columns = {
        "observation.state": np.concatenate([to_base(hands[:, :7]), hands[:, 7:]], 1).T,
        "action": np.stack(log.actions).T,
        "phase": np.array(expert.lines[::every])[None],
    }
    things = {f"sim.object_pose.{n}": to_base(objects[:, i]).T for i, n in enumerate(stage.objects)}
    return columns | things, solved_at is not None


def record(task: str, episodes: int) -> Batch:
    """Play the scenes 0.. of a task; those that fail are left out."""
    spec, stage = RecordSpec(simulator="metaworld", tasks=(task,)), Stage(task, 32)
    played = [columns for seed in range(episodes) for columns, solved in [play(stage, spec, seed)] if solved]
    things = [n for n in played[0] if n.startswith("sim.object_pose.")]
    poses = tuple(Feature(n, "float32", (7,), POSE_NAMES, role="privileged", unit="m", privileged=True) for n in things)
    contract = Contract(task, "sim", "metaworld_sawyer", float(spec.hz), features=(STATE, ACTION, *poses))
    sizes = [p["action"].shape[1] for p in played]
    clock = np.concatenate([np.rint(np.arange(n) * 1e9 / spec.hz).astype(np.int64) for n in sizes])
    whole = {name: np.concatenate([p[name] for p in played], 1) for name in played[0]}
    phase = np.unique(whole.pop("phase")[0], return_inverse=True)[1]
    batch = batch_of(contract, clock, sizes, whole)
    told = replace(contract, features=(*contract.features, PHASE))
    return replace(batch, contract=told, steps=batch.steps.append_column(PHASE.name, pa.array(phase.astype(np.float32))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--episodes", type=int, default=8)
    asked = parser.parse_args()
    for task in asked.tasks:
        batch = record(task, asked.episodes)
        for privileged in (True, False):
            print(f"{task}, {len(batch.episodes)} episodes, objects {'known' if privileged else 'not used'}")
            for report in Segments(SegmentsConfig(privileged=privileged)).evaluate(batch):
                if report.value is not None:
                    others = ", ".join(f"{n} {v:.3f}" for n, v in report.baselines.items())
                    print(f"  {report.metric} {report.value:.3f} ({others}) {report.gate}")


if __name__ == "__main__":
    main()
