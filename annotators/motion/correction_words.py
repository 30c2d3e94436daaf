"""Corrections in words: which differences of motion are worth telling, and how to say them."""

import numpy as np

from transforms.motion import I8, RateRule
from transforms.motion_text import Axis, phrase
from transforms.rotation import F64

_SIDES = {"left": "to the left", "right": "to the right"}


def difference_code(axes: tuple[Axis, ...], rate: F64, rule: RateRule) -> I8:
    """Return the sign of every axis whose difference is worth telling, int8[A], by the thresholds and the share rule of motions."""
    on = thresholds(axes, rule)
    kinds = [(a.who if a.kind != "joint" else "", a.kind) for a in axes]
    group = np.array([kinds.index(k) for k in kinds])
    total = np.array([np.abs(rate[group == g]).sum() for g in group]) * rule.share
    competes = np.array([a.kind not in ("gripper", "base") for a in axes])
    need = np.where(competes, np.maximum(on, total), on)
    return np.where(np.abs(rate) > need, np.sign(rate), 0).astype(np.int8)


def say_correction(axes: tuple[Axis, ...], code: I8, rate: F64, rule: RateRule, max_parts: int) -> str:
    """Write a correction: "no, more to the left and up, close gripper"."""
    strength = np.abs(rate) / thresholds(axes, rule)
    order = tuple(int(i) for i in np.argsort(-strength, kind="stable") if code[i])
    text = phrase(axes, tuple(int(c) for c in code), order, (), max_parts)
    lead, _, rest = text.partition(",")
    if lead.startswith("move arm "):
        words = [_SIDES.get(w, w) for w in lead.removeprefix("move arm ").split(" and ")]
        lead = "more " + " and ".join(words)
    return f"no, {lead},{rest}" if rest else f"no, {lead}"


def thresholds(axes: tuple[Axis, ...], rule: RateRule) -> F64:
    """Return what counts as a motion on each axis, float64[A]."""
    by_kind = {"translation": rule.v_on, "gripper": rule.grip_on, "base": rule.base_v_on}
    return np.array([by_kind.get(a.kind, rule.w_on) for a in axes])
