"""What comes next, as verbs and nouns (AntGPT): the acts seen in the first part of an episode, and the Z acts that came after it.

The acts seen, and the goal told from them, are read without the rest of the episode.
"""

from collections import Counter

import numpy as np

from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.kinds.implausible import spoken
from annotators.text.scene import Scene


def anticipation(scene: Scene, config: TextConfig) -> list[Draft] | str:
    """Return one sequence to anticipate, over the unseen part."""
    if not scene.seen:
        return "nothing_observed"
    stop = scene.seen[-1].stop
    future = tuple(p.act for p in scene.parts if p.first >= stop)[: config.ahead]
    if not future:
        return "nothing_follows"
    nouns = Counter(p.noun for p in scene.seen if p.noun)
    goal = nouns.most_common(1)[0][0] if nouns else None
    slots = {
        "observed": [list(p.act) for p in scene.seen], "future": [list(a) for a in future], "goal": goal,
        "observed_s": round(float(scene.seconds[stop - 1]), 3),
    }  # fmt: skip
    text = spoken(tuple(p.act for p in scene.seen))
    first = int(np.clip(stop, 0, scene.size - 1))
    return [Draft("anticipation", "acts", text, first, scene.size, answer=spoken(future), slots=slots, source="segments")]
