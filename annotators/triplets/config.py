"""What counts as one visible change: the settings of the annotator `triplets`, all of them part of its fingerprint."""

from dataclasses import dataclass

from schemas.errors import UsageError

SIDE = 256  # pixels of the longer side of what filters look at; their thresholds in pixels are meant at this size
CANDIDATES = ("segment", "event", "clip", "goal", "counterfactual")
KINDS = ("location", "rotation", "count", "attribute", "articulation", "grasp", "arm_only")
LABELS = (
    "positive", "arm_only", "goal", "neg_reverse", "neg_direction", "neg_scene", "neg_no_change", "neg_camera",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TripletsConfig:
    """Thresholds in seconds, shares, and pixels of a picture whose longer side is `SIDE`.

    Attributes:
        cameras: which colour cameras; empty: all that are neither privileged nor on a hand or a head.
        hz: pictures looked at per second.
        candidates: kinds of pairs to look for: `segment` (before and after a segment), `event` (from before the hand comes to after it
            leaves), `clip` (first and last picture under one caption), `goal` (start and a later picture, for goal-conditioned policies).
        settle_s: how long after an end the target is taken.
        least_sharp: variance of the Laplacian of luminance in 0..1 below which a picture is too blurred or empty.
        blur_ratio: the duller of the two may have this share of the other's.
        least_light_change: difference of mean luminance (of 1) from which the target is brought to the source's exposure.
        most_gain: by at most this factor.
        camera_px: most motion of the camera.
        lab: distance in Lab from which a pixel has changed.
        flow_px: motion against the background from which a pixel next to such a one has changed too, if its colour did by a third of `lab`.
        least_area: share of the picture that must change.
        most_area: share that may.
        least_part: share of the picture below which a part of the change is noise.
        still_px: most motion of what changed around each end.
        still_s: how far around.
        match: least overlap of colours between what left one place and what came to another; a thing that hardly went shows half of it.
        least_ssim: structural similarity outside of what changed.
        light: most median distance in Lab of what did not change: where all of a picture is a little different, the light is.
        duplicate_bits: pairs whose hashes differ by fewer bits, and that change the same place, are one.
        goal_every_s: how far apart starts of `goal` pairs lie.
        goal_first_s: the nearest goal; the next ones are twice as far each.
        negatives: add hard negatives to every positive.
        shift_px: how far the camera of `neg_camera` moves.
        masks: use a simulator's segmentation to tell the robot from the rest.
        poses: use a simulator's object poses: exactly one thing must have moved, and prompts say where to.
        moved_m: how far a thing must go to have moved.
        turned_rad: or how far it must turn: as much as `moved_m` at 30 cm from a hinge.
        home_m: where the picture does not tell the robot from the rest, its hand must be this near to where it was at the source.
        home_rad: or its joints, where only they are known.
        arm_m: radius of the arm around the hand, where a calibrated camera shows it and nothing better is known.
        reach_m: how far the arm is seen from the hand upwards.
    """

    cameras: tuple[str, ...] = ()
    hz: float = 10.0
    candidates: tuple[str, ...] = ("segment", "event", "clip", "goal")
    settle_s: float = 0.2
    least_sharp: float = 2e-5
    blur_ratio: float = 0.3
    least_light_change: float = 0.06
    most_gain: float = 1.6
    camera_px: float = 0.5
    lab: float = 12.0
    flow_px: float = 1.5
    least_area: float = 0.002
    most_area: float = 0.35
    least_part: float = 0.001
    still_px: float = 0.3
    still_s: float = 0.1
    match: float = 0.6
    least_ssim: float = 0.93
    light: float = 3.0
    duplicate_bits: int = 6
    goal_every_s: float = 2.0
    goal_first_s: float = 0.5
    negatives: bool = True
    shift_px: float = 4.0
    masks: bool = True
    poses: bool = True
    moved_m: float = 0.02
    turned_rad: float = 0.07
    home_m: float = 0.02
    home_rad: float = 0.1
    arm_m: float = 0.06
    reach_m: float = 0.25

    def __post_init__(self) -> None:
        for name in ("hz", "still_s", "lab", "camera_px", "goal_every_s", "goal_first_s", "shift_px", "most_gain", "light"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above zero")
        if not 0 < self.least_part <= self.least_area < self.most_area <= 1:
            raise UsageError(
                f"areas must rise: least_part={self.least_part}, least_area={self.least_area}, most_area={self.most_area}, at most 1"
            )
        if self.settle_s < 0 or self.duplicate_bits < 0:
            raise UsageError(f"settle_s={self.settle_s} and duplicate_bits={self.duplicate_bits} must not be negative")
        found = [c for c in self.candidates if c not in CANDIDATES[:-1]]
        if found or not self.candidates:
            raise UsageError(f"candidates={list(self.candidates)} must name one or more of {', '.join(CANDIDATES[:-1])}")
