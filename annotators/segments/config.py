"""How segments are found and named: the settings of the annotator `segments`, all of them part of its fingerprint."""

from dataclasses import dataclass

from schemas.errors import UsageError
from transforms.changepoint import Model

PHASES = ("reach", "grasp", "transport", "place", "release", "push", "rotate", "retract", "idle")
SKILLS = ("translation", "rotation", "grasp")  # of the energies
_MODELS = ("bspline", "constant_velocity")


@dataclass(frozen=True, slots=True)
class SegmentsConfig:
    """Thresholds in seconds, metres, radians and fractions.

    Attributes:
        hz: the clock on which boundaries are placed.
        smooth_s: length of the Savitzky-Golay window.
        model: what a movement looks like: a cubic spline of five control points, or a straight line at constant velocity.
        penalty: price of a segment; larger means fewer.
        misfit_m: a position this far from the curve for a second costs 1; joints and rotations by `misfit_rad`.
        misfit_rad: see `misfit_m`.
        shortest_s: least length of a segment.
        longest_s: most length of a segment; idle neighbours are joined again afterwards.
        gripper: what a boundary is worth where a gripper begins or stops moving.
        stop: where a limb stops or starts again.
        minimum: where its speed has a local minimum under `slow` of the episode's median speed.
        jerk: where its jerk peaks over four times the episode's median.
        contact: where a force or contact signal jumps.
        objects: where an object begins or stops moving along with a hand (simulators only).
        slow: see `minimum`.
        still_mps: under this speed a limb stands still; joints and rotations count by their lever of 0.2 m.
        privileged: use what only a simulator knows (object poses, contacts).
        scale: metres per second, radians per second and gripper openings per second that count as one unit of energy; `calibrated`
            sets them to a dataset's medians.
        merges: pairs of codes that a macro code stands for, learnt by `calibrated`.
        motions: name the language motions inside each segment.
        wording: `module:function` that may replace the words, never the boundaries: it takes a list of dicts (`phase`, `object`, `who`,
            `task`, `text`) per episode and returns as many texts.
    """

    hz: float = 10.0
    smooth_s: float = 0.5
    model: Model = "bspline"
    penalty: float = 1.0
    misfit_m: float = 0.03
    misfit_rad: float = 0.2
    shortest_s: float = 0.3
    longest_s: float = 8.0
    gripper: float = 1.5
    stop: float = 1.0
    minimum: float = 0.8
    jerk: float = 0.1
    contact: float = 1.0
    objects: float = 1.5
    slow: float = 0.3
    still_mps: float = 0.02
    privileged: bool = True
    scale: tuple[float, float, float] = (0.1, 0.5, 0.5)
    merges: tuple[tuple[int, int], ...] = ()
    motions: bool = True
    wording: str = ""

    def __post_init__(self) -> None:
        for name in ("hz", "misfit_m", "misfit_rad", "shortest_s", "longest_s", "still_mps"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above zero")
        for name in ("penalty", "smooth_s", "gripper", "stop", "minimum", "jerk", "contact", "objects", "slow"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name}={getattr(self, name)} must not be negative")
        if self.model not in _MODELS:
            raise UsageError(f"model={self.model!r} is unknown; use {' or '.join(_MODELS)}")
        if self.longest_s < 2 * self.shortest_s:
            raise UsageError(f"longest_s={self.longest_s} must be at least twice shortest_s={self.shortest_s}")
        if len(self.scale) != 3 or not min(self.scale) > 0:
            raise UsageError(f"scale={self.scale} must be three positive numbers: m/s, rad/s, openings per second")
        for at, pair in enumerate(self.merges):
            if len(pair) != 2 or not all(0 <= code < len(PHASES) + at for code in pair):
                raise UsageError(f"merges[{at}]={pair} must name two earlier codes, 0..{len(PHASES) + at - 1}")
        if self.wording and ":" not in self.wording:
            raise UsageError(f"wording={self.wording!r} must name a function as module:function")
