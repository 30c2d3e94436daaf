"""Teachers and students by name: `fastwam:PATH`, `python:package.module:function`, and which source of a mixture has which teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, cast

from pipelines.residuals.pair import TeacherPair
from pipelines.residuals.teacher import Teacher
from schemas.errors import UsageError
from schemas.registry import Registry

TEACHERS = Registry(
    "teacher",
    "cotrain.teachers",
    {
        "fastwam": "pipelines.residuals.teachers.fastwam:FastWAMTeacher",
        "pi0": "pipelines.residuals.teachers.flow_probe:Pi0Teacher",
        "pi05": "pipelines.residuals.teachers.flow_probe:Pi05Teacher",
        "smolvla": "pipelines.residuals.teachers.flow_probe:SmolVLATeacher",
        "diffusion": "pipelines.residuals.teachers.diffusion:DiffusionTeacher",
        "act": "pipelines.residuals.teachers.act:ActTeacher",
        "multi_task_dit": "pipelines.residuals.teachers.multi_task_dit:MultiTaskDitTeacher",
    },
)


@dataclass(frozen=True, slots=True)
class Named:
    """A teacher by its text, and the student beside it; opened once per process.

    Attributes:
        teacher: `KIND:PATH` of a LeRobot checkpoint, or `python:MODULE:NAME` of a teacher or of a function that makes one.
        student: the same; empty: the teacher is its own student under another mask, or there is none.
        device: where the models run.
    """

    teacher: str
    student: str = ""
    device: str = "cpu"

    def open(self) -> Teacher:
        """Return the teacher.

        Raises:
            UsageError: the text names no teacher, or the two do not belong together.
        """
        return _open(self)


@lru_cache(maxsize=4)
def _open(source: Named) -> Teacher:
    found = open_teacher(source.teacher, source.device)
    return TeacherPair(found, open_teacher(source.student, source.device)) if source.student else found


def open_teacher(text: str, device: str = "cpu") -> Teacher:
    """Open one teacher or student by its text.

    Raises:
        UsageError: it names no teacher.
    """
    kind, _, where = text.partition(":")
    if not where:
        raise UsageError(f"{text!r} names no teacher; write KIND:PATH ({', '.join(TEACHERS.known)}) or python:MODULE:NAME")
    if kind != "python":
        return cast("Teacher", TEACHERS.load(kind).open(where, device))
    module, _, name = where.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{text!r} cannot be imported: {error}") from error
    made = found if hasattr(found, "spec") and not isinstance(found, type) else found()
    if not all(hasattr(made, part) for part in ("spec", "needs", "prepare", "encode", "velocity")):
        raise UsageError(f"{text!r} is a {type(made).__name__}, not a teacher; see pipelines.residuals.from_callable")
    return cast("Teacher", made)


def assignments(teachers: Sequence[str], sources: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read `--teacher SOURCE=SPEC` several times, or `--teacher SPEC` once: which sources each teacher answers for.

    Every source has exactly one teacher, or none: a sample never mixes two.

    Raises:
        UsageError: a source is unknown or has two teachers, or some are named and one is not.
    """
    found: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for text in teachers:
        name, given, spec = text.partition("=")
        if not given or ":" in name:
            if len(teachers) > 1:
                raise UsageError(f"there are {len(teachers)} teachers; say for each which source it answers for: SOURCE={text}")
            return {text: ()}
        if name not in sources:
            raise UsageError(f"the mixture has no source {name!r}; it has {', '.join(sources)}")
        if name in taken:
            raise UsageError(f"source {name} has two teachers, {taken[name]} and {spec}; a sample has exactly one")
        taken[name] = spec
        found.setdefault(spec, []).append(name)
    return {spec: tuple(names) for spec, names in found.items()}
