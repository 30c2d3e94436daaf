"""LeRobot's own reader finds gaze once its style is registered, as docs/gaze.md says."""

import pytest

from pipelines.exporters.base import LanguageRow
from pipelines.exporters.lerobot.language import atoms_for

CAMERA = "observation.images.scene"


def test_lerobot_finds_a_chain_at_its_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from lerobot.datasets import language, language_render

    rows = [LanguageRow("gaze", "look at <loc0512><loc0100>", 200_000_000, "scene")]
    (atom,) = atoms_for("language_events", (), rows, np.arange(10) * 100_000_000, 10, {"scene": CAMERA})
    with pytest.raises(ValueError, match="Unknown language style"):
        language.column_for_style("gaze")
    for name in ("EVENT_ONLY_STYLES", "VIEW_DEPENDENT_STYLES"):
        monkeypatch.setattr(language, name, getattr(language, name) | {"gaze"})
    assert language.column_for_style("gaze") == "language_events"
    language.validate_camera_field("gaze", CAMERA)
    found = language_render.emitted_at(0.2, persistent=[], events=[dict(atom.body)], style="gaze")
    assert found is not None
    assert (found["content"], found["camera"]) == (rows[0].text, CAMERA)
