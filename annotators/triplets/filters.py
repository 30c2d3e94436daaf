"""The nine filters, cheapest first. Each says why a pair is no minimal change, or how clearly it is one; the first refusal ends it.

The ninth, duplicates, needs the other pairs of an episode: see `annotators.triplets.duplicates`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from annotators.triplets.camera import corner_shift
from annotators.triplets.change import Part, came_from, exchange, is_shading, similar_edges, widened
from annotators.triplets.pair import Evidence
from annotators.triplets.words import contradicts, gripper_promised, kind_promised

FREE = ("reach", "retract")  # phases in which a hand holds nothing
NEXT_TO = 3  # pixels
LEAST_MOVE = 2.0  # pixels: less has no direction
TURN = 0.25  # of its size: a thing whose middle goes less far than this has turned
REPAINTED = 0.5  # correlation of edges above which a thing only changed its colour
ARM_ONLY = "arm_only"
UNTRUSTED = 0.5  # confidence where the second opinion on the camera is missing or another


@dataclass(frozen=True, slots=True)
class Moved:
    """How the change reads.

    Attributes:
        kind: of the edit.
        dx: displacement to the right in working pixels; None where there is none to see.
        dy: downwards.
        before: the part where it was.
        after: the part where it is; the same where it did not leave.
    """

    kind: str
    dx: float | None
    dy: float | None
    before: Part
    after: Part


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one pair.

    Attributes:
        reason: of the filter that refused it; None where none did. `arm_only` pairs are kept apart.
        filter: name of that filter.
        confidence: product of the margins so far.
        evidence: what was measured on the way.
        moved: how the change reads, of accepted pairs.
    """

    reason: str | None
    filter: str | None
    confidence: float
    evidence: Evidence
    moved: Moved | None = None


def judge(evidence: Evidence) -> Judged:
    """Pass a pair through the filters."""
    confidence = 1.0
    for name, look in FILTERS:
        found = look(evidence)
        if isinstance(found, str):
            return Judged(found, name, confidence, evidence)
        confidence *= min(max(found, 0.0), 1.0)
    if evidence.pair.prompt is None:
        return Judged("no_prompt", "prompt", confidence, evidence)
    return Judged(None, None, confidence * _second_opinion(evidence), evidence, read_change(evidence))


def picture(e: Evidence) -> str | float:
    """1: sharp enough, and as bright as each other after compensation."""
    dull, clear = sorted(e.sharpness)
    if dull < e.config.least_sharp or dull < e.config.blur_ratio * clear:
        return "too_blurred"
    if not 1 / e.config.most_gain <= e.gain <= e.config.most_gain:
        return "exposure_differs"
    return 1.0 if e.gain == 1.0 else 0.8


def camera(e: Evidence) -> str | float:
    """2: the camera stands still."""
    if e.camera.px > e.config.camera_px:
        return "camera_moved"
    return 1 - 0.3 * e.camera.px / e.config.camera_px


def change(e: Evidence) -> str | float:
    """3: something changed, and not everything."""
    area = float(e.change.mean())
    if area < e.config.least_area:
        return "no_change"
    if area > e.config.most_area:
        return "too_much_changed"
    return min(1.0, 0.7 + 0.3 * (e.config.most_area - area) / (0.2 * e.config.most_area))


def robot(e: Evidence) -> str | float:
    """4: not only the robot."""
    outside = float(e.outside.mean())
    if outside < e.config.least_area:
        return ARM_ONLY
    return min(1.0, 0.8 + 0.2 * (outside - e.config.least_area) / e.config.least_area)


def stillness(e: Evidence) -> str | float:
    """5: what changed stands still at both ends."""
    most = max(e.restless(e.pair.before, at_target=False), e.restless(e.pair.after, at_target=True))
    return "not_still" if most > e.config.still_px else 1 - 0.2 * most / e.config.still_px


def single(e: Evidence) -> str | float:
    """6: one thing changed, by what a simulator tells, and by the parts that are seen."""
    if e.pair.moved is not None and e.pair.moved != 1:
        return "several_changes" if e.pair.moved > 1 else "nothing_moved"
    count = len(e.parts)
    if count == 1:
        return 1.0
    if count == 0:
        return "scattered_change"
    if count > 2:
        return "several_changes"
    match = max(_matches(e))
    return match if match >= e.config.match else "several_changes"


def surroundings(e: Evidence) -> str | float:
    """7: everything else looks as before, and in the same light."""
    if e.light > e.config.light or _only_lit(e):
        return "light_differs"
    outside, _ = e.likeness
    if outside <= e.config.least_ssim:
        return "surroundings_differ"
    return 0.7 + 0.3 * (outside - e.config.least_ssim) / (1 - e.config.least_ssim)


def prompt(e: Evidence) -> str | float:
    """8: what was said is what is seen, as far as words tell: that only the robot went, where a thing went, what the gripper did."""
    pair, text = e.pair, e.pair.prompt or ""
    if pair.phase in FREE:
        return "prompt_contradicts"  # the hand came or left, and yet something changed
    moved = read_change(e)
    if moved.dx is not None and moved.dy is not None and contradicts(text, moved.dx, moved.dy, LEAST_MOVE):
        return "prompt_contradicts"
    if pair.opened is not None and pair.phase in ("grasp", "release") and gripper_promised(text) * pair.opened < 0:
        return "gripper_contradicts"
    return 1.0


FILTERS: tuple[tuple[str, Callable[[Evidence], str | float]], ...] = (
    ("picture", picture), ("camera", camera), ("change", change), ("robot", robot), ("stillness", stillness), ("single", single),
    ("surroundings", surroundings), ("prompt", prompt),
)  # fmt: skip
NAMES = (*(name for name, _ in FILTERS), "duplicate")


def read_change(e: Evidence) -> Moved:
    """Read what kind of change the parts show, and where to. Call it where `single` let the pair pass."""
    promised = e.pair.kind or kind_promised(e.pair.prompt or "", e.pair.phase)
    if len(e.parts) == 2:
        there, back = _matches(e)
        before, after = e.parts if there >= back else e.parts[::-1]
        dx, dy = after.centre[0] - before.centre[0], after.centre[1] - before.centre[1]
        goes = promised in ("", "location")
        return Moved(promised or "location", dx if goes else None, dy if goes else None, before, after)
    part = e.parts[0]
    found = exchange(*e.labs, part)
    if found.balanced:
        far = float(np.hypot(found.dx, found.dy))
        goes = far > TURN * found.size and far > LEAST_MOVE
        kind = promised or ("location" if goes else "rotation")
        goes &= kind == "location"  # what a drawer uncovers is no ground to tell from
        return Moved(kind, found.dx if goes else None, found.dy if goes else None, part, part)
    if (widened(part.mask, NEXT_TO) & e.robot).any():
        return Moved(promised or "location", None, None, part, part)  # the robot hides the other half
    seen = "attribute" if similar_edges(*e.greys, part) > REPAINTED else "count"
    return Moved(promised or seen, None, None, part, part)


def _only_lit(e: Evidence) -> bool:
    """Tell whether the one part that changed kept its edges and its hue: light falls on it that did not before."""
    if len(e.parts) != 1 or exchange(*e.labs, e.parts[0]).balanced:
        return False
    return similar_edges(*e.greys, e.parts[0]) > REPAINTED and is_shading(e.source, e.target, e.parts[0])


def _matches(e: Evidence) -> tuple[float, float]:
    a, b = e.parts
    return came_from(e.source, e.target, a, b), came_from(e.source, e.target, b, a)


def _second_opinion(e: Evidence) -> float:
    """Ask matched corners whether the camera stood still; they are few on plain scenes, and then only cost confidence."""
    found = corner_shift(*e.greys)
    return 1.0 if found is not None and found <= max(2.0, 2 * e.config.camera_px) else UNTRUSTED
