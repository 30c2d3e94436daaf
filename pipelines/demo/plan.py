"""What the demo works on: three sources, the mixture of them, and what is exported. Chooses; does nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.record.spec import RecordSpec
from pipelines.sources.base import SourceOptions, read_overlay
from schemas.mixture import MixtureSpec, SourceSpec

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
MIXTURE = "demo"
FORMATS = ("lerobot", "rlds")


@dataclass(frozen=True, slots=True)
class DemoSource:
    """One source. `made` sources are written by the demo itself first; the others are real recordings, read in place."""

    name: str
    kind: str
    uri: Path
    options: SourceOptions
    made: bool
    about: str


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Everything the demo will do, decided beforehand."""

    work: Path
    recording: RecordSpec
    sources: tuple[DemoSource, ...]

    @property
    def recordings(self) -> Path:
        """Where simulated demonstrations are recorded."""
        return self.work / "recordings"

    @property
    def exports(self) -> Path:
        """Where the datasets are exported to, one folder per format."""
        return self.work / "exports"

    @property
    def mixture(self) -> MixtureSpec:
        """Sim, robot and human video at 5 : 3 : 4, where the human clips may be seen at most once: the cap binds, and shows."""
        sim, robot, human = (s.name for s in self.sources)
        return MixtureSpec(
            name=MIXTURE,
            samples=1600,
            seed=7,
            sources=(
                SourceSpec(sim, weight=0.5),
                SourceSpec(robot, weight=0.3),
                SourceSpec(human, weight=0.4, max_epochs=0.5),
            ),
        )


def data_folder() -> Path | None:
    """Return the folder of real recordings, `$COTRAIN_TEST_DATA` or `../shared/data` beside the project, if it is there."""
    folder = Path(os.environ.get("COTRAIN_TEST_DATA", PROJECT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def make_plan(work: Path, data: Path | None, simulator: str = "auto") -> DemoPlan:
    """Choose the demo's sources: real ones where `data` has them, else stand-ins that the demo makes below `work`."""
    recording = RecordSpec(simulator=simulator)  # pyright: ignore[reportArgumentType]
    sim = DemoSource(
        "sim", "recording", work / "recordings", SourceOptions("sim", "MIT"), True, "scripted experts, recorded in simulation"
    )
    return DemoPlan(work, recording, (sim, _robot(work, data), _human(work, data)))


def _robot(work: Path, data: Path | None) -> DemoSource:
    real = data / "lerobot" / "g1_v30_3ep" if data else None
    if real is not None and real.is_dir():
        options = SourceOptions("g1", "MIT", read_overlay(HERE / "g1.toml"))
        return DemoSource("g1", "lerobot", real, options, False, "real Unitree G1 episodes, LeRobot v3.0")
    about = "simulated, written as LeRobot v3.0 by LeRobot's own LeRobotDataset.create: no real robot data on this machine"
    return DemoSource("arm", "lerobot", work / "made" / "lerobot", SourceOptions("arm", "MIT"), True, about)


def _human(work: Path, data: Path | None) -> DemoSource:
    real = data / "human_video" if data else None
    if real is not None and real.is_dir():
        options = SourceOptions("hands", "Apache-2.0", texts=str(HERE / "narrations.csv"))
        return DemoSource("hands", "human_video", real, options, False, "real hands at work, 720p video with narrations")
    about = "a simulated egocentric clip with narrations: no real human video on this machine"
    return DemoSource("ego", "human_video", work / "made" / "ego", SourceOptions("ego", "MIT"), True, about)
