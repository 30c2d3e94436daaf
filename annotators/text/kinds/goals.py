"""Goals with a number in them (ARNOLD): how high or how far an object is in the end, in words and as a value with a tolerance."""

import numpy as np

from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.scene import Scene

LEVELS = (0.25, 0.5, 0.75, 1.0)
STYLE = "task_aug"


def goals(scene: Scene, config: TextConfig) -> list[Draft] | str:
    """Return, for every object that ended elsewhere, its goal, and the four levels of it that ARNOLD discretises to.

    The level that the episode reached is one more way to state its task; the others are goals it did not reach, and say so.
    """
    if not scene.things:
        return "no_known_objects"
    drafts = list[Draft]()
    for name in sorted(scene.things):
        for state, template in (("height_m", "raise the {} by {} cm"), ("shift_m", "move the {} by {} cm across the table")):
            whole = progress(scene, name, state)[-1]
            if whole > config.moved_m:
                drafts += [_goal(scene, config, name, state, template, float(whole), level) for level in LEVELS]
    return drafts or "nothing_moved"


def progress(scene: Scene, name: str, state: str) -> np.ndarray:
    """Return a continuous state of one object at every step, metres from where it began: float64[T]."""
    moved = scene.things[name] - scene.things[name][:, :1]
    return moved[2] if state == "height_m" else np.linalg.norm(moved[:2], axis=0)


def _goal(scene: Scene, config: TextConfig, name: str, state: str, words: str, whole: float, level: float) -> Draft:
    value = round(whole * level, 2)
    text = words.format(name, f"{value * 100:.0f}")
    slots = {"object": name, "state": state, "level": level, "hold_s": config.hold_s}
    goal = (value, max(config.tolerance * whole, 0.005 + 1e-9))  # what is said is rounded to whole centimetres
    own = level == 1.0  # the only one that may be exported as an instruction of this episode
    return Draft(
        "goal", state, text, 0, scene.size, style=STYLE if own else None, answer="reached" if own else "not reached", slots=slots,
        source="simulator state", goal=goal,
    )  # fmt: skip
