"""Records what a spec asks for into a folder, skipping the episodes that are there already."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipelines.executors import Execution, run_all
from pipelines.record import layout
from pipelines.record.factors import draw_scene
from pipelines.record.recording import Header, existing_keys, read_facts, read_header
from pipelines.record.render import choose_backend
from pipelines.record.rollout import Rollout, Simulator
from pipelines.record.spec import RecordSpec
from pipelines.record.tasks import PUSH_T, instruction
from pipelines.record.writer import remove_leftovers, write_episode, write_header
from schemas.errors import DataError, DependencyError, MissingFileError, UsageError, WorkerCrashError
from schemas.registry import Registry

SIMULATORS = Registry(
    "simulator",
    "cotrain.simulators",
    {
        "metaworld": "pipelines.record.metaworld:MetaWorld",
        "pusht": "pipelines.record.pusht:PushT",
        "gymnasium": "pipelines.record.gymnasium_env:GymnasiumEnv",
        "robosuite": "pipelines.record.robosuite_env:RobosuiteEnv",
    },
)


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """How one episode went."""

    key: str
    status: Literal["recorded", "skipped"]
    success: bool | None = None
    steps: int = 0
    frames: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordReport:
    """What a call of `record` did.

    Attributes:
        episodes: recorded by this call.
        skipped: asked for and there already.
        successes: of both together.
        frames: pictures rendered by this call, masks not counted.
        seconds: wall clock.
        simulator: the one that was used.
        notes: what the user did not ask for, in words: a fallback, nothing left to do.
    """

    episodes: int
    skipped: int
    successes: int
    frames: int
    seconds: float
    simulator: str = ""
    notes: tuple[str, ...] = ()


def record(
    spec: RecordSpec,
    out: str | Path,
    *,
    workers: int | None = None,
    on_episode: Callable[[EpisodeReport], None] | None = None,
) -> RecordReport:
    """Record every episode of `spec` that the folder `out` does not hold yet.

    Args:
        spec: what to record.
        out: the recording's folder; made if absent. It may already hold other tasks or episodes recorded with the same settings.
        workers: worker processes; 0 records in this process, None uses one per core.
        on_episode: told about every episode as it ends, skipped ones first.

    Raises:
        UsageError: `out` holds a recording made with other settings.
        DependencyError: no simulator works on this machine.
        WorkerCrashError: a worker process died; the episodes already written are kept.
    """
    started, folder = time.perf_counter(), Path(out).expanduser()
    header = read_header(folder)
    spec, notes = resolve(spec, header)
    plan = episodes(spec)
    there = existing_keys(folder)
    reports = [_skipped(folder, key) for e in plan for key in episode_keys(spec, *e) if key in there]
    todo = [(*e, missing) for e in plan if (missing := tuple(k for k in episode_keys(spec, *e) if k not in there))]
    for report in reports:
        _tell(on_episode, report)
    if todo:
        remove_leftovers(folder)
        for report in _play(spec, folder, header, todo, workers):
            reports.append(report)
            _tell(on_episode, report)
    else:
        notes = (*notes, f"all {len(reports)} episodes are recorded already; nothing to do")
    return _summary(reports, time.perf_counter() - started, spec, notes)


def episodes(spec: RecordSpec) -> list[tuple[str, int]]:
    """Return the `(task, scene)` pairs of a resolved spec, task by task."""
    return [(task, scene) for task in spec.tasks for scene in spec.seeds]


def episode_keys(spec: RecordSpec, task: str, scene: int) -> list[str]:
    """Return the keys of the episodes one scene makes: what is played, then each counterfactual of it."""
    return [layout.episode_key(task, scene, factor) for factor in ("", *spec.counterfactual)]


def resolve(spec: RecordSpec, header: Header | None = None) -> tuple[RecordSpec, tuple[str, ...]]:
    """Return `spec` with its simulator and tasks named, and what has to be said about the choice.

    Args:
        spec: what the user asked for.
        header: of the recording that will be extended, if there is one.

    Raises:
        UsageError: the recording was made with other settings.
        UnknownNameError: there is no such simulator or task.
        DependencyError: the simulator asked for, or with `auto` every simulator, is missing something.
    """
    notes: tuple[str, ...] = ()
    if header is not None and spec.simulator == "auto":
        spec = replace(spec, simulator=header.spec.simulator)
    elif spec.simulator == "auto":
        why = "" if _only_pusht(spec) else metaworld_obstacle(spec)
        if why and spec.tasks and not _only_pusht(spec):
            raise DependencyError(f"tasks {list(spec.tasks)} need Meta-World, and {why}")
        spec = replace(spec, simulator="pusht" if why or _only_pusht(spec) else "metaworld")
        notes = (f"recording PushT instead of Meta-World: {why}",) if why else ()
    kind = SIMULATORS.load(spec.simulator)
    spec = replace(spec, tasks=spec.tasks or kind.default_tasks)
    for task in spec.tasks:
        instruction(task, kind.known_tasks)
    _check_factors(spec, kind)
    if header is not None and (changed := header.spec.differences(spec)):
        words = ", ".join(f"{name} {old!r}, now {new!r}" for name, (old, new) in changed.items())
        raise UsageError(f"this folder holds a recording made with other settings ({words}); record into another folder")
    return spec, notes


def metaworld_obstacle(spec: RecordSpec) -> str:
    """Say why Meta-World cannot be recorded here; empty if it can."""
    for package in ("metaworld", "mujoco"):
        if find_spec(package) is None:
            return f"the package {package!r} is not installed (`pip install cotrain[sim]`)"
    try:
        choose_backend(spec.gl)
    except DependencyError as error:
        return str(error)
    return ""


def open_simulator(spec: RecordSpec) -> Simulator:
    """Return the simulator a resolved spec names.

    Raises:
        UnknownNameError: there is no such simulator.
        DependencyError: a package or library it needs is missing.
    """
    simulator: Simulator = SIMULATORS.load(spec.simulator)(spec)
    return simulator


def _check_factors(spec: RecordSpec, kind: Any) -> None:
    if spec.depth_hz and not getattr(kind, "sees_depth", False):
        raise UsageError(f"{spec.simulator} recordings have no depth; record with depth_hz=0")
    known: tuple[str, ...] = getattr(kind, "factors", ())
    if missing := [name for name in (*spec.factors.varied, *spec.counterfactual) if name not in known]:
        raise UsageError(f"{spec.simulator} cannot vary {', '.join(missing)}; it can vary {', '.join(known) or 'nothing'}")
    if spec.factors.varied or spec.counterfactual:
        draw_scene(spec.factors, spec.tasks[0], spec.seed, kind.values)  # complains about values it does not know


def _only_pusht(spec: RecordSpec) -> bool:
    return bool(spec.tasks) and set(spec.tasks) <= set(PUSH_T)


def _play(
    spec: RecordSpec, folder: Path, header: Header | None, todo: list[tuple[str, int, tuple[str, ...]]], workers: int | None
) -> Iterator[EpisodeReport]:
    if spec.simulator == "metaworld":
        spec = replace(spec, gl=choose_backend(spec.gl))  # once, here; workers are told
    header = _header(spec, header)
    write_header(folder, header)
    try:
        for (_, _, task, scene, _), result in run_all(
            _record, [(spec, str(folder), *e) for e in todo], Execution(workers=workers)
        ):
            if isinstance(result, WorkerCrashError):
                raise WorkerCrashError(
                    f"{result}, episode {layout.episode_key(task, scene)}; what is recorded is kept, run the same again to continue",
                    uri=str(folder),
                ) from result
            yield from result
    finally:
        _close(spec)


def _header(spec: RecordSpec, earlier: Header | None) -> Header:
    """Return the header of the recording with `spec`'s tasks in it; the earlier one if it covers them."""
    tasks = tuple(dict.fromkeys([*(earlier.spec.tasks if earlier else ()), *spec.tasks]))
    if earlier is not None and tasks == earlier.spec.tasks:
        return earlier
    simulator = open_simulator(spec)
    try:
        return Header(replace(spec, tasks=tasks), simulator.contract(tasks))
    finally:
        simulator.close()


def _record(spec: RecordSpec, folder: str, task: str, scene: int, keys: tuple[str, ...]) -> list[EpisodeReport]:
    """Record those of one scene's episodes that are named by `keys`, in whichever process this runs."""
    root = Path(folder)
    header = read_header(root)
    if header is None:
        raise MissingFileError(f"{root / layout.RECORDING} disappeared while recording", uri=folder)
    started, reports = time.perf_counter(), list[EpisodeReport]()
    for rollout in _rollouts(spec, task, scene, keys):
        key = layout.episode_key(task, scene, rollout.changed)
        if key in keys:
            write_episode(root, header.contract, rollout, gop=spec.gop)
            frames, seconds = sum(len(f) for f in rollout.frames.values()), time.perf_counter() - started
            reports.append(EpisodeReport(key, "recorded", rollout.success, len(rollout.reward), frames, seconds))
        started = time.perf_counter()
    return reports


def _rollouts(spec: RecordSpec, task: str, scene: int, keys: tuple[str, ...]) -> Iterator[Rollout]:
    """Yield what is played, then the counterfactuals of it that `keys` name."""
    simulator: Any = _opened(spec)
    played: Rollout = simulator.run(task, scene)
    yield played
    for factor in spec.counterfactual:
        if layout.episode_key(task, scene, factor) in keys:
            yield simulator.rerender(played, factor)


@lru_cache(maxsize=1)
def _opened(spec: RecordSpec) -> Simulator:
    """Return this process's simulator; worker processes keep it from one episode to the next."""
    return open_simulator(spec)


def _close(spec: RecordSpec) -> None:
    if _opened.cache_info().currsize:
        _opened(spec).close()
        _opened.cache_clear()


def _skipped(folder: Path, key: str) -> EpisodeReport:
    try:
        facts = read_facts(folder / layout.EPISODES / key)
    except DataError:
        return EpisodeReport(key, "skipped")  # ingest will say what is wrong with it
    return EpisodeReport(key, "skipped", facts.success, facts.steps)


def _summary(reports: list[EpisodeReport], seconds: float, spec: RecordSpec, notes: tuple[str, ...]) -> RecordReport:
    done = [r for r in reports if r.status == "recorded"]
    return RecordReport(
        episodes=len(done), skipped=len(reports) - len(done), successes=sum(bool(r.success) for r in reports),
        frames=sum(r.frames for r in done), seconds=seconds, simulator=spec.simulator, notes=notes,
    )  # fmt: skip


def _tell(on_episode: Callable[[EpisodeReport], None] | None, report: EpisodeReport) -> None:
    if on_episode:
        on_episode(report)
