"""What is a segment? Base-skill energies after SPIL (Zhou et al. 2024) and nine phases of manipulation, by rules on one track."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from annotators.segments.tracks import LEVER_M, Limb, Track
from transforms.cues import LEAST_MOVE, attached, gripper_moves, holding
from transforms.grid import BOOL
from transforms.rotation import F64

_FAINT = 0.05  # a rotation under this much of its unit is none, as SPIL has it
_WORDS = {
    "reach": "reach for the {}", "grasp": "grasp the {}", "transport": "move the {}", "place": "place the {}",
    "release": "release the {}", "push": "push the {}", "rotate": "rotate the {}", "retract": "move away from the {}", "idle": "wait",
}  # fmt: skip
_BARE = {
    "reach": "reach", "grasp": "close the gripper", "transport": "carry", "place": "place", "release": "open the gripper",
    "push": "push", "rotate": "rotate", "retract": "retract", "idle": "wait",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """One named segment: a phase, who does it, with which object (empty where unknown), and its energies (a simplex, or zeros)."""

    phase: str
    who: str
    thing: str
    energies: tuple[float, float, float]

    @property
    def text(self) -> str:
        """The phase in words."""
        words = _WORDS[self.phase].format(self.thing) if self.thing else _BARE[self.phase]
        if self.who and not self.thing and self.phase in ("grasp", "release"):
            return words.replace("the gripper", f"the {self.who.replace('arm', 'gripper')}")
        return f"{words} with the {self.who}" if self.who and self.phase != "idle" else words


def energies(limb: Limb, a: int, b: int, scale: tuple[float, float, float], hz: float) -> F64:
    """Mean speeds of a limb in samples `[a, b)`, in units of `scale`: translation, rotation, grasp. float64[3]."""
    grip = 0.0 if limb.opening is None or b - a < 2 else float(np.abs(np.diff(limb.opening[a:b])).mean()) * hz
    raw = np.array([limb.speed[a:b].mean(), limb.turn[a:b].mean(), grip]) / scale
    raw[1] = raw[1] if raw[1] >= _FAINT else 0.0
    return raw


def usual_speeds(track: Track, hz: float, window_s: float = 0.5) -> list[F64]:
    """Energies, unscaled, of every window of every limb: what `calibrated` takes the medians of. Each float64[3]."""
    width = max(2, round(window_s * hz))
    return [
        energies(limb, a, a + width, (1.0, 1.0, 1.0), hz) for limb in track.limbs for a in range(0, track.size - width, width)
    ]


def name_segments(track: Track, first: list[int], scale: tuple[float, float, float], still_mps: float, hz: float) -> list[Named]:
    """Name the segments of one stretch that begin at `first`."""
    spans = list(pairwise([*first, track.size]))
    hands = [_Hand(limb, track, hz) for limb in track.limbs]
    plans = [hand.phases(spans, scale, still_mps) for hand in hands]
    named: list[Named] = []
    for at, span in enumerate(spans):
        strength = [energies(limb, *span, scale, hz) for limb in track.limbs]
        events = [plan[at] in ("grasp", "release") for plan in plans]
        best = max(range(len(hands)), key=lambda i: (events[i], float(strength[i].sum())))
        total = float(strength[best].sum())
        phase = plans[best][at]
        share = strength[best] / total if total > 0 else np.zeros(3)
        thing = "" if phase == "idle" else hands[best].thing(at, spans, plans[best])
        named.append(Named(phase, track.limbs[best].who, thing, (float(share[0]), float(share[1]), float(share[2]))))
    return named


class _Hand:
    """Reads one limb's phases; keeps what several rules ask for."""

    def __init__(self, limb: Limb, track: Track, hz: float) -> None:
        self.limb, self.track, self.hz = limb, track, hz
        self.moves = [] if limb.opening is None else gripper_moves(limb.opening, hz)
        none = np.zeros(track.size, bool)
        self.held: BOOL = none if limb.opening is None else holding(limb.opening, self.moves)
        self.along = {} if limb.place is None else {n: attached(limb.place, p, hz) for n, p in track.things.items()}

    def phases(self, spans: list[tuple[int, int]], scale: tuple[float, float, float], still_mps: float) -> list[str]:
        """Name each span: first what happens in it by itself, then what it is for."""
        plain = [self._alone(a, b, scale, still_mps) for a, b in spans]
        return [self._meant(at, plain) for at in range(len(plain))]

    def thing(self, at: int, spans: list[tuple[int, int]], plan: list[str]) -> str:
        """Return the object a span is about: the one carried or pushed in it, else the nearest one where its purpose shows."""
        if self.limb.place is None or not self.track.things:
            return ""
        a, b = spans[at]
        carried = {name: float(along[a:b].mean()) for name, along in self.along.items()}
        best = max(carried, key=carried.__getitem__)
        if carried[best] > 0.2:
            return best
        when = b - 1 if plan[at] in ("reach", "grasp") else a
        apart = {name: float(np.linalg.norm(p[:, when] - self.limb.place[:, when])) for name, p in self.track.things.items()}
        return min(apart, key=apart.__getitem__)

    def _alone(self, a: int, b: int, scale: tuple[float, float, float], still_mps: float) -> str:
        change = sum(c * _shared(a, b, first, stop) for first, stop, c in self.moves)
        raw = energies(self.limb, a, b, scale, self.hz)
        if abs(change) >= LEAST_MOVE and (raw[2] >= raw[:2].max() or abs(change) >= 0.5 * max(abs(c) for *_, c in self.moves)):
            return "grasp" if change < 0 else "release"
        if self.limb.pace[a:b].mean() < still_mps:
            return "idle"
        if raw[1] > raw[0] and raw[1] * scale[1] * LEVER_M > still_mps:
            return "rotate"
        if float(self.held[a:b].mean()) > 0.5:
            return "carry"
        moved = max((float(x[a:b].mean()) for x in self.along.values()), default=0.0)
        return "push" if moved > 0.3 else "move"

    def _meant(self, at: int, plain: list[str]) -> str:
        what = plain[at]
        if what == "carry":
            later = next((p for p in plain[at + 1 :] if p not in ("idle", "rotate")), "")
            return "place" if later == "release" and "carry" in plain[:at] else "transport"
        if what == "move":
            before = next((p for p in reversed(plain[:at]) if p in ("release", "grasp", "push", "move")), "")
            later = any(p in ("grasp", "push") for p in plain[at + 1 :])
            leaves = before in ("release", "push") and (not later or _more(plain[at + 1 :]))
            return "retract" if leaves else "reach"
        return what


def _more(after: list[str]) -> bool:
    """Tell whether another free movement follows before the next grasp: then the first one after a release only leaves."""
    until = next((i for i, p in enumerate(after) if p in ("grasp", "push")), len(after))
    return "move" in after[:until]


def _shared(a: int, b: int, first: int, stop: int) -> float:
    """Share of the move `[first, stop)` that lies in `[a, b)`."""
    return max(0, min(b, stop) - max(a, first)) / max(1, stop - first)
