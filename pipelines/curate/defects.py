"""Injects known defects into a selection, scores good and spoilt episodes alike, and judges every score; writes nothing to the lake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from catalog.lake import Lake
from pipelines.curate.evaluation import Seen, judge
from pipelines.curate.pooled import joint_rows
from pipelines.curate.subject import read_footage, read_subject
from pipelines.selection import choose
from pipelines.shards.reader import Shard, open_shard
from schemas.errors import UsageError
from transforms.curation.defects import DEFECTS, PICTURES, Defect, Donor, blurred, spoil, spoil_footage
from transforms.curation.metrics import METRICS
from transforms.curation.pooled import Reference
from transforms.curation.score import Footage, Subject
from transforms.curation.segments import movements
from transforms.curation.signals import read_signals
from transforms.lint.base import Evidence
from transforms.rotation import F64

SHORTEST = 8  # steps


@dataclass(frozen=True, slots=True)
class Case:
    """One episode as scores see it, and what was done to it: None for a good one."""

    subject: Subject
    defect: Defect | None
    recording: str
    task: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """How well one score sees one defect."""

    method: str
    kind: str
    family: str
    spoilt: int
    seen: Seen


def inject(
    lake: Lake, what: str, kinds: Sequence[str] = tuple(DEFECTS), *, seeds: int = 1, video_hz: float | None = 5.0
) -> list[Case]:
    """Return every chosen episode, and per kind and seed a spoilt copy of it where the defect applies.

    Args:
        lake: where the episodes are.
        what: see `pipelines.selection.choose`.
        kinds: names of `transforms.curation.defects.DEFECTS`.
        seeds: spoilt copies per episode and kind.
        video_hz: pictures per second; None leaves pictures, and their defects, out.

    Raises:
        UsageError: there is no such defect, or nothing is chosen.
    """
    if unknown := sorted(set(kinds) - set(DEFECTS)):
        raise UsageError(f"there is no defect {unknown[0]!r}; there are {', '.join(DEFECTS)}")
    rows = choose(lake, what).episodes.filter(pl.col("steps") >= SHORTEST)
    cases: list[Case] = []
    for (dataset,), held in rows.group_by(["dataset"], maintain_order=True):
        found = list(held.iter_rows(named=True))
        shards = [open_shard(lake, str(dataset), row["shard"]) for row in found]
        subjects = [read_subject(s, row, video_hz) for s, row in zip(shards, found, strict=True)]
        donors = [Donor(s.evidence.steps, s.footage) for s in subjects]  # of the same robot: the next episode is the donor
        for i, subject in enumerate(subjects):
            donor = donors[(i + 1) % len(donors)] if len(donors) > 1 else None
            name = str(found[i]["episode_id"])
            task = f"{dataset}/{found[i]['task']}"
            cases.append(Case(subject, None, name, task))
            for spoilt, defect in _spoilt(shards[i], subject, donor, kinds, seeds, video_hz):
                cases.append(Case(spoilt, defect, name, task))
    return cases


def judge_scores(cases: Sequence[Case], methods: Sequence[str] = tuple(METRICS)) -> list[Judgement]:
    """Judge every method on every kind of defect, and on every family and all of them together (`kind` is then the family, or `all`)."""
    values = {m: _scored(cases, m) for m in methods}
    groups: dict[str, tuple[str, list[int]]] = {}
    for i, case in enumerate(cases):
        if case.defect is not None:
            for name, family in ((case.defect.kind, case.defect.family), (case.defect.family,) * 2, ("all", "all")):
                groups.setdefault(name, (family, []))[1].append(i)
    good = [i for i, c in enumerate(cases) if c.defect is None]
    found: list[Judgement] = []
    for method, told in values.items():
        for kind, (family, spoilt) in groups.items():
            at = good + spoilt
            label = [cases[i].defect is None for i in at]
            length = [float(cases[i].subject.evidence.count) for i in at]
            seen = judge([told[i] for i in at], label, length, [cases[i].recording for i in at])
            found.append(Judgement(method, kind, family, len(spoilt), seen))
    return found


def ledger(cases: Sequence[Case]) -> pl.DataFrame:
    """Return what was done to which episode, one row per spoilt copy."""
    return pl.DataFrame([c.defect.to_dict() for c in cases if c.defect is not None])


def _spoilt(
    shard: Shard, subject: Subject, donor: Donor | None, kinds: Sequence[str], seeds: int, video_hz: float | None
) -> Iterator[tuple[Subject, Defect]]:
    it = subject.evidence
    for kind in kinds:
        for seed in range(1 if kind in PICTURES else seeds):
            made = spoil(it.contract, it.steps, kind, seed, donor)
            if made is None:
                continue
            footage = dict(subject.footage)
            if kind == "blur" and video_hz is not None:
                footage = {c: read_footage(shard, it, c, video_hz, blurred) for c in subject.footage}
            elif kind in PICTURES:
                footage = spoil_footage(kind, subject.footage, donor) or {}
            if kind in PICTURES and not footage:
                continue
            yield _subject(it, made[0], subject, footage), made[1]


def _subject(it: Evidence, steps: pa.Table, clean: Subject, footage: dict[str, Footage]) -> Subject:
    evidence = Evidence(it.contract, steps, it.facts, it.row, it.tracks, it.glimpses, it.streams)
    signals = read_signals(evidence)
    spans = () if signals is None else movements(signals)
    return replace(clean, evidence=evidence, signals=signals, spans=spans, footage=footage)


def _scored(cases: Sequence[Case], method: str) -> list[float | None]:
    """Return a method's value per case, turned so that more is better."""
    metric = METRICS[method]
    sign = 1.0 if metric.better == "more" else -1.0
    if metric.compute is not None:
        values = [metric.compute(c.subject).value for c in cases]
    elif method == "blur":
        values = _blur(cases)
    elif method == "consistency":
        values = _consistency(cases)
    else:
        values = [None] * len(cases)
    return [None if v is None else sign * v for v in values]


def _blur(cases: Sequence[Case]) -> list[float | None]:
    """Sharpness against the median of the good episodes of the same camera: a data set is mostly good."""
    raw = [{c: float(np.median(f.sharpness)) for c, f in case.subject.footage.items() if len(f.sharpness)} for case in cases]
    medians: dict[tuple[str, str], float] = {}
    for camera in {c for r in raw for c in r}:
        for task in {c.task for c in cases}:
            own = [r[camera] for r, c in zip(raw, cases, strict=True) if c.task == task and c.defect is None and camera in r]
            medians[task, camera] = float(np.median(own)) if own else 0.0
    return [
        min((v / medians[case.task, c] for c, v in r.items() if medians[case.task, c] > 0), default=None)
        for r, case in zip(raw, cases, strict=True)
    ]


def _consistency(cases: Sequence[Case]) -> list[float | None]:
    """Joint outliers, fitted per task to good episodes and one spoilt in ten: a data set is mostly good."""
    rows: list[F64] = [joint_rows(c.subject.evidence) for c in cases]
    found: list[float | None] = [None] * len(cases)
    for task in {c.task for c in cases}:
        mine = [i for i, c in enumerate(cases) if c.task == task and len(rows[i])]
        fit = [i for n, i in enumerate(mine) if cases[i].defect is None or n % 10 == 0]
        reference = Reference.fit(np.concatenate([rows[i] for i in fit])) if fit else None
        for i in mine if reference is not None else ():
            assert reference is not None
            found[i] = reference.score(rows[i]).value
    return found
