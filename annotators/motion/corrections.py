"""Corrections: what a person changed when they took over, as a motion code and as words ("no, more to the left").

Interventions are steps that a flag marks (LeRobot's DAgger recordings: `intervention`; HIL: `is_intervention`). Where the policy's own
action was recorded beside them, the correction is the difference of the two motions; else the change of velocity across the take-over.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from annotators.base import Batch, Covers, fingerprint
from annotators.evaluation import QualityReport, not_measurable, ratio, verdict
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.correction_words import difference_code, say_correction
from annotators.motion.labels import StepLabels
from annotators.motion.language_motion import LanguageMotion
from annotators.motion.read import step_column
from annotators.spans import span_table
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract, Feature
from schemas.interventions import FLAG, POLICY_ACTION
from schemas.settings import parse_settings
from transforms.grid import runs
from transforms.motion_text import Axis
from transforms.rotation import F64

STYLE = "interjection"


@dataclass(frozen=True, slots=True)
class CorrectionsConfig(LanguageMotionConfig):
    """How corrections are read: as language motions are, with the same thresholds.

    Attributes:
        flag: step column that marks interventions; empty: found by its name.
        policy: step column with the policy's own action; empty: found by its name, if there is one.
    """

    flag: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """One intervention: steps `[first, stop)` of the batch, the difference of rates float64[A], and what it is a difference to."""

    first: int
    stop: int
    rate: F64
    against: Literal["policy_action", "velocity_before"]


@dataclass(frozen=True, slots=True)
class MotionCorrections:
    """Annotates interventions; see the module's text."""

    config: CorrectionsConfig = field(default_factory=CorrectionsConfig)

    name: ClassVar[str] = "motion_corrections"
    version: ClassVar[str] = "1"
    covers: ClassVar[Covers] = "episodes"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),
            pa.field("style", NAME),  # LeRobot's style
            pa.field("code", pa.list_(pa.int8())),
            pa.field("axes", NAME),
            pa.field("rate", pa.list_(pa.float32())),  # corrected less uncorrected, per axis: m/s, rad/s, opening per window
            pa.field("against", NAME),  # policy_action or velocity_before
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `CorrectionsConfig`."""
        return cls(parse_settings(CorrectionsConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration, and the language motions inside."""
        return fingerprint(self.name, self.version, self.settings(), (self._motion("auto").fingerprint(),))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name the flag, the policy's action and what motion is read from; empty without a flag or anything that moves."""
        flag = self._flag(contract)
        motion = self._motion("auto").requires(contract)
        if flag is None or not motion:
            return ()
        policy = self._policy(contract)
        both = () if policy is None else (policy[0].name, policy[1].name)
        return tuple(dict.fromkeys((flag.name, *both, *motion)))

    def run(self, batch: Batch) -> pa.Table:
        """Describe every intervention; an episode without one has a row that says so."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        labels = self._motion("auto").label(batch)
        flag = self._flag(batch.contract)
        if flag is None or isinstance(labels, str):
            why = labels if isinstance(labels, str) else "no_intervention_flag"
            return self._table(batch, [(int(a), int(b), why, None) for a, b in _spans(batch)], ())
        axes, found = self.find(batch, labels, flag)
        rows: list[tuple[int, int, str, Correction | None]] = []
        for a, b in _spans(batch):
            mine = [c for c in found if a <= c.first < b]
            rows += [(c.first, c.stop, "" if np.isfinite(c.rate).all() else "horizon_past_end", c) for c in mine]
            rows += [] if mine else [(int(a), int(b), "no_intervention", None)]
        return self._table(batch, rows, axes)

    def find(self, batch: Batch, labels: StepLabels, flag: Feature) -> tuple[tuple[Axis, ...], list[Correction]]:
        """Return the axes and every intervention with its difference of rates (NaN where there was no motion to compare)."""
        policy = self._policy(batch.contract)
        told = self._both(batch, *policy) if policy is not None else None
        marked = np.nan_to_num(step_column(batch.steps.column(flag.name))[0]) > 0
        changed = np.concatenate([[True], marked[1:] != marked[:-1]])
        changed[batch.starts[:-1]] = True
        found: list[Correction] = []
        for a, n in zip(*(x.tolist() for x in runs(changed)), strict=True):
            if not marked[a]:
                continue
            if told is not None:
                human, machine = told
                found.append(Correction(a, a + n, _mean(human, a, a + n) - _mean(machine, a, a + n), "policy_action"))
            else:
                start = int(batch.starts[np.searchsorted(batch.starts, a, side="right") - 1])
                before = int(np.searchsorted(batch.t_ns[start:a], batch.t_ns[a] - round(2e9 * self.config.window_s))) + start
                # a label looks one window ahead, so those of the last window before the take-over already see it
                until = int(np.searchsorted(batch.t_ns[start:a], batch.t_ns[a] - round(1e9 * self.config.window_s))) + start
                rate = _mean(labels, a, a + n) - _mean(labels, before, max(until, before))
                found.append(Correction(a, a + n, rate, "velocity_before"))
        return (labels if told is None else told[0]).axes, found

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Share of corrections whose code points along the mean difference of the raw actions, for deltas and velocities."""
        goal = "at least 0.95"
        policy, flag = self._policy(heldout.contract), self._flag(heldout.contract)
        labels = self._motion("auto").label(heldout)
        if policy is None or flag is None or isinstance(labels, str):
            return (not_measurable("correction_agreement", "no intervention flag or no policy action beside the person's", goal),)
        axes, found = self.find(heldout, labels, flag)
        sound = [c for c in found if np.isfinite(c.rate).all() and difference_code(axes, c.rate, self.config).any()]
        if not sound or any(f.representation == "absolute" for f in policy) or axes[0].kind != "translation":
            why = "no correction with a translation, or targets are absolute"
            return (not_measurable("correction_agreement", why, goal),)
        raw = step_column(heldout.steps.column(policy[0].name)) - step_column(heldout.steps.column(policy[1].name))
        means = np.stack([raw[:3, c.first : c.stop].mean(1) for c in sound])
        codes = np.stack([difference_code(axes, c.rate, self.config)[:3] for c in sound])
        episode = np.array([np.searchsorted(heldout.starts, c.first, side="right") - 1 for c in sound])
        right = np.bincount(episode, (means * codes).sum(1) > 0, len(heldout.episodes)).astype(np.float64)
        value, ci = ratio(right, np.bincount(episode, minlength=len(heldout.episodes)).astype(np.float64))
        mirrored = float(((-codes * means).sum(1) > 0).mean())
        return (
            QualityReport(
                "correction_agreement", value, ci, len(heldout.episodes), len(sound), "all", {"opposite": mirrored},
                verdict(value >= 0.95), "difference of the raw actions", goal,
            ),
        )  # fmt: skip

    def _motion(self, source: Literal["auto", "action"]) -> LanguageMotion:
        plain: dict[str, Any] = {f.name: getattr(self.config, f.name) for f in fields(LanguageMotionConfig)}
        if source == "action":
            plain["source"] = source
        return LanguageMotion(LanguageMotionConfig(**plain))

    def _flag(self, contract: Contract) -> Feature | None:
        wanted = self.config.flag
        return next((f for f in contract.features if (f.name == wanted if wanted else FLAG.search(f.name)) and f.size == 1), None)

    def _policy(self, contract: Contract) -> tuple[Feature, Feature] | None:
        """Return the person's action feature and the policy's."""
        action = next((f for f in contract.features if f.role == "action"), None)
        wanted = self.config.policy
        other = next((f for f in contract.features if (f.name == wanted if wanted else POLICY_ACTION.search(f.name))), None)
        return None if action is None or other is None or other.size != action.size else (action, other)

    def _both(self, batch: Batch, action: Feature, policy: Feature) -> tuple[StepLabels, StepLabels] | None:
        """Label the person's actions, and the policy's put in their place; None where actions tell no motion."""
        motion = self._motion("action")
        place = batch.steps.column_names.index(action.name)
        swapped = batch.steps.set_column(place, batch.steps.field(place), batch.steps.column(policy.name))
        human, machine = motion.label(batch), motion.label(replace(batch, steps=swapped))
        return None if isinstance(human, str) or isinstance(machine, str) else (human, machine)

    def _table(self, batch: Batch, rows: list[tuple[int, int, str, Correction | None]], axes: tuple[Axis, ...]) -> pa.Table:
        codes = [None if c is None or why else difference_code(axes, c.rate, self.config) for *_, why, c in rows]
        told = [(c, k) if c is not None and k is not None and k.any() else None for (*_, c), k in zip(rows, codes, strict=True)]
        reasons = [None if t else (why or "no_difference") for t, (*_, why, _) in zip(told, rows, strict=True)]
        names, parts = ",".join(a.name for a in axes), self.config.max_parts
        columns: dict[str, list[Any]] = {
            "text": [t and say_correction(axes, t[1], t[0].rate, self.config, parts) for t in told],
            "style": [t and STYLE for t in told],
            "code": [t and t[1].tolist() for t in told],
            "axes": [t and names for t in told],
            "rate": [t and t[0].rate.tolist() for t in told],
            "against": [t and t[0].against for t in told],
        }
        own = {f.name: pa.array(columns[f.name], f.type) for f in self.provides}
        first, stop = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.int64)
        return span_table(self, batch, first, stop, reasons, own)


def _mean(labels: StepLabels, a: int, b: int) -> F64:
    """Mean rate of the labelled steps in `[a, b)`, float64[A]; NaN where there are none."""
    use = labels.reason[a:b] == 0
    return labels.rate[:, a:b][:, use].mean(1) if use.any() else np.full(len(labels.axes), np.nan)


def _spans(batch: Batch) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in zip(batch.starts[:-1], batch.starts[1:], strict=True)]
