"""Why was this done? Rationales after the act (ActRe), from what was known until it ended, at the moments where the movement changes."""

from itertools import pairwise

import numpy as np

from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.scene import Scene

WORDS = (("backward", "forward"), ("right", "left"), ("down", "up"))  # base frame: x forward, y left, z up
SIDES = (("behind", "in front of"), ("right of", "left of"), ("below", "above"))
_FAR_OPEN = 0.2  # a gripper within this of the widest it has been so far is open


def rationales(scene: Scene, config: TextConfig) -> list[Draft] | str:
    """Return one rationale per window in which the hand begins to move another way."""
    if scene.hand is None:
        return "no_end_effector"
    if not scene.things:
        return "no_known_objects"
    drafts, before = list[Draft](), (0, 0, 0)
    for a, b in windows(scene, config):
        code = motion_code(scene, a, b, config)
        if any(code) and code != before and (draft := rationale_at(scene, a, b, config)) is not None:
            drafts.append(draft)
        before = code
    return drafts or "hand_never_nears_an_object"


def windows(scene: Scene, config: TextConfig) -> list[tuple[int, int]]:
    """Return the windows `[a, b]` of steps, one after the other, that end inside the episode."""
    edges = np.arange(0.0, scene.seconds[-1] + 1e-9, config.window_s)
    at = np.searchsorted(scene.seconds, edges - 1e-6)
    return [(a, b) for a, b in pairwise(at.tolist()) if b > a]


def motion_code(scene: Scene, a: int, b: int, config: TextConfig) -> tuple[int, int, int]:
    """Return the sign of the movement between two steps along x, y and z; 0 below `step_m`."""
    assert scene.hand is not None
    moved = scene.hand[:, b] - scene.hand[:, a]
    x, y, z = (int(np.sign(m)) if abs(m) >= config.step_m else 0 for m in moved)
    return x, y, z


def rationale_at(scene: Scene, a: int, b: int, config: TextConfig) -> Draft | None:
    """Return the rationale of one window, or None where the hand moves at no object. Steps after `b` are not read."""
    assert scene.hand is not None
    code = motion_code(scene, a, b, config)
    hand, moved = scene.hand[:, a], scene.hand[:, b] - scene.hand[:, a]
    nearing = {n: float(moved @ (p[:, a] - hand)) for n, p in scene.things.items()}
    apart = {n: float(np.linalg.norm(p[:, a] - hand)) for n, p in scene.things.items()}
    open_now = is_open(scene, a)
    ahead = [n for n in nearing if nearing[n] > 0.5 * apart[n] * float(np.linalg.norm(moved)) and apart[n] > config.step_m]
    if not ahead or not open_now or not any(code):
        return None
    thing = min(ahead, key=apart.__getitem__)
    offset = scene.things[thing][:, a] - hand
    axis = int(np.argmax(np.abs(offset)))
    side = SIDES[axis][int(offset[axis] > 0)]
    way = " and ".join(WORDS[i][int(s > 0)] for i, s in enumerate(code) if s)
    text = f"the gripper is open and the {thing} is {apart[thing] * 100:.0f} cm away, mostly {side} it, so move {way}"
    slots = {"thing": thing, "distance_m": round(apart[thing], 4), "side": side, "code": list(code), "gripper": "open"}
    return Draft(
        "rationale", "approach", text, a, b + 1, answer=way, slots=slots, source="simulator state until the end of the span",
        posterior=True,
    )  # fmt: skip


def is_open(scene: Scene, a: int) -> bool:
    """Tell whether the gripper is as far open at step `a` as it has been until then; a hand without one always is."""
    return scene.opening is None or bool(scene.opening[a] >= scene.opening[: a + 1].max() - _FAR_OPEN)
