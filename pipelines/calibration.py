"""Sets an annotator to a dataset: units and habits of segments, constraints of texts. What was found is kept in the settings."""

from collections.abc import Mapping
from typing import Any

from annotators.segments.segments import Segments
from annotators.text.text import Text
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
    return _calibrated(Segments, lake, what, settings)


def with_constraints(lake: Lake, what: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of `text` with the constraints mined on `what`, where they say `calibrate=true`; see `with_calibration`."""
    return _calibrated(Text, lake, what, settings)


def _calibrated(kind: type[Segments] | type[Text], lake: Lake, what: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    plain = {k: v for k, v in settings.items() if k != SWITCH}
    wanted = str(settings.get(SWITCH, "false")).lower()
    if wanted not in ("true", "false"):
        raise UsageError(f"{SWITCH}={settings[SWITCH]} must be true or false")
    if wanted == "false":
        return plain
    annotator = kind.from_settings(plain)
    stage = EvaluateStage(lake, annotator, what, EPISODES)
    units = stage.plan()
    if len(units) != 1:
        names = ", ".join(u.dataset for u in units) or "no dataset"
        raise UsageError(f"{kind.name} is calibrated on one dataset at a time, and {what!r} selects {names}; name one")
    return annotator.calibrated(stage.batch(units[0])).settings()
