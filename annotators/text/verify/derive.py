"""Is the answer to a question true? Re-derived from the raw columns of the steps, without segments' names or the generator's code."""

import numpy as np

from annotators.base import Batch
from annotators.motion.read import read_slots, step_column
from annotators.motion.source import find_source
from annotators.motion.things import object_columns, object_places
from annotators.text.draft import Draft
from transforms.rotation import F64

_STILL_M = 0.02


class Truth:
    """Raw state of a batch: what answers are held against."""

    def __init__(self, batch: Batch) -> None:
        columns = {n: step_column(batch.steps.column(c)) for n, c in object_columns(batch.contract).items()}
        self.places = {n: p[:3] if len(p) in (3, 7) else p[[3, 7, 11]] for n, p in columns.items()} or object_places(batch)
        source = find_source(batch.contract)
        self.hand: F64 | None = None
        self.grip: F64 | None = None
        if source is not None and source.arms:
            values = read_slots(batch, source)[0]
            self.hand = values[source.arms[0].position]
            gripper = source.arms[0].gripper
            self.grip = None if gripper is None else values[gripper].mean(0)

    def derived(self, draft: Draft, start: int, stop: int, moved_m: float) -> bool:
        """Tell whether the answer of a question about an episode, steps `[start, stop)` of the batch, follows from the state."""
        return draft.answer == self.answer(draft, start, stop, moved_m)

    def answer(self, draft: Draft, start: int, stop: int, moved_m: float) -> str | None:
        """Return the answer that the state gives to a question; None where it gives none to one of this kind."""
        a, last = start + draft.first, start + draft.stop - 1
        if draft.template == "nearest":
            return self._nearest(a)
        if draft.template == "gripper" and self.grip is not None:
            span = self.grip[start:stop]
            return "open" if self.grip[a] - span.min() > span.max() - self.grip[a] else "closed"
        if draft.template == "displaced":
            place = self.places[str(draft.slots["thing"])]
            return "yes" if np.sqrt(((place[:, last] - place[:, start]) ** 2).sum()) > moved_m else "no"
        return None

    def shows(self, verb: str, noun: str, a: int, b: int) -> bool:
        """Tell whether the state shows an act during steps `[a, b]` of the batch: what must change changes."""
        grip = 0.0 if self.grip is None else float(self.grip[b] - self.grip[a])
        if verb == "grasp":
            return grip < 0
        if verb == "release":
            return grip > 0
        thing = self.places.get(noun)
        carried = thing is None or float(np.linalg.norm(thing[:, b] - thing[:, a])) > _STILL_M
        if verb in ("transport", "place", "push"):
            return carried
        hand = 0.0 if self.hand is None else float(np.linalg.norm(self.hand[:, b] - self.hand[:, a]))
        return verb in ("rotate", "idle") or hand > _STILL_M

    def _nearest(self, at: int) -> str | None:
        if self.hand is None:
            return None
        apart = {n: float(((p[:, at] - self.hand[:, at]) ** 2).sum()) for n, p in self.places.items()}
        return min(apart, key=apart.__getitem__) if apart else None
