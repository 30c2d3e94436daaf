"""How recorded gaze is read: from which signal, onto which camera, and what counts as a fixation."""

from dataclasses import dataclass
from typing import Literal

from schemas.errors import UsageError
from transforms.gaze.fixations import FixationRule, Method

Events = Literal["auto", "recorded", "ivt", "idt"]
FIXATION, SACCADE, OUT_OF_FRAME, UNTRACKED = 0, 1, 2, 3  # numbers of `type`, those of GLC


@dataclass(frozen=True, slots=True)
class GazeConfig:
    """How to read gaze.

    Attributes:
        camera: whose pictures; None: the first that looks where the head does.
        stream: which signal; None: personalised gaze before general gaze.
        within_s: a step takes the nearest sample, which may be one step away, or half the time between samples where that is longer, but
            never more than this; gaze is never interpolated, for a saccade may lie between.
        events: whose fixations: the device's own (`recorded`), by velocity (`ivt`) or dispersion (`idt`); `auto`: the device's where
            it names any, else velocity.
        least_s: shortest fixation.
        speed_deg: I-VT, degrees per second.
        extent_deg: I-DT, degrees.
        speed_widths: I-VT where nobody states the lens, picture widths per second: GLC's 40 of 1088 pixels at 30 pictures per second.
        extent_widths: I-DT where nobody states the lens.
        least_confidence: samples below are not tracked, where the device states a confidence.
        assumed_m: how far away what is looked at is taken to be where nobody measured it; such rows say `depth_assumed`.
        device_cpf: T_device_cpf of a Project Aria device, 16 numbers row by row, metres; needed to place its gaze in a picture. It is
            among the attributes of every episode that was read with its VRS file.
    """

    camera: str | None = None
    stream: str | None = None
    within_s: float = 0.05
    events: Events = "auto"
    least_s: float = 0.1
    speed_deg: float = 30.0
    extent_deg: float = 1.5
    speed_widths: float = 1.1
    extent_widths: float = 0.02
    least_confidence: float = 0.6
    assumed_m: float = 1.0
    device_cpf: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: names the field.
        """
        for name in ("within_s", "least_s", "speed_deg", "extent_deg", "speed_widths", "extent_widths", "assumed_m"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}={getattr(self, name)} must be above 0")
        if not 0 <= self.least_confidence <= 1:
            raise UsageError(f"least_confidence={self.least_confidence} must be in 0..1")
        if len(self.device_cpf) not in (0, 16):
            raise UsageError(
                f"device_cpf has {len(self.device_cpf)} numbers; T_device_cpf is a 4x4 matrix, 16 numbers row by row"
            )

    def rule(self, rays: bool) -> FixationRule:
        """Return the rule for fixations, in degrees where rays are known and in widths of the picture where they are not."""
        method: Method = "idt" if self.events == "idt" else "ivt"
        if rays:
            return FixationRule(method, self.speed_deg, self.extent_deg, least_s=self.least_s)
        return FixationRule(method, self.speed_widths, self.extent_widths, least_s=self.least_s, join=self.extent_widths / 3)
