"""Sets segments to a dataset: the units of energy to its medians, the macro codes to its habits, both kept in the settings."""

from collections.abc import Mapping
from typing import Any

from annotators.segments.segments import Segments
from catalog.lake import Lake
from pipelines.annotate.quality import EvaluateStage
from schemas.errors import UsageError

EPISODES = 50
SWITCH = "calibrate"


def with_calibration(lake: Lake, what: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of `segments`, calibrated on `what` where they say `calibrate=true`; they name what was found.

    The same settings on the same episodes give the same result, so running it again does nothing.

    Raises:
        UsageError: the selection holds no episode, or those of several datasets, whose units differ.
    """
    plain = {k: v for k, v in settings.items() if k != SWITCH}
    wanted = str(settings.get(SWITCH, "false")).lower()
    if wanted not in ("true", "false"):
        raise UsageError(f"{SWITCH}={settings[SWITCH]} must be true or false")
    if wanted == "false":
        return plain
    annotator = Segments.from_settings(plain)
    stage = EvaluateStage(lake, annotator, what, EPISODES)
    units = stage.plan()
    if len(units) != 1:
        names = ", ".join(u.dataset for u in units) or "no dataset"
        raise UsageError(f"segments are calibrated on one dataset at a time, and {what!r} selects {names}; name one")
    return annotator.calibrated(stage.batch(units[0])).settings()
