"""A spec refuses what cannot be recorded, and says which setting is wrong."""

from typing import Any

import pytest

from pipelines.record.spec import RecordSpec
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("episodes", 0), ("seed", -1), ("size", 127), ("size", 8), ("hz", 0), ("cameras", ()), ("cameras", ("front", "front")),
        ("cameras", ("side",)), ("segmentation_hz", -5), ("tasks", ("a", "a")), ("settle_s", -1.0),
        ("pace", 0.0), ("pace", 1.5), ("gop", 0), ("gl", "glx"),
    ],
)  # fmt: skip
def test_an_impossible_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        RecordSpec(**{field: value})


def test_a_spec_survives_json() -> None:
    spec = RecordSpec(tasks=("reach-v3",), cameras=("wrist",), pace=0.7)
    raw = spec.to_dict()
    assert RecordSpec.from_dict(raw | {"tasks": list(spec.tasks), "cameras": list(spec.cameras)}) == spec


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="colour"):
        RecordSpec.from_dict({"colour": "red"})


def test_a_recording_may_grow_but_not_change() -> None:
    spec = RecordSpec(simulator="metaworld", tasks=("reach-v3",))
    assert spec.differences(RecordSpec(simulator="metaworld", tasks=("push-v3",), episodes=9, seed=4, gl="egl")) == {}
    assert spec.differences(RecordSpec(simulator="metaworld", tasks=("reach-v3",), size=64, pace=1.0)) == {
        "size": (128, 64),
        "pace": (0.4, 1.0),
    }


def test_masks_come_every_so_many_steps() -> None:
    assert [RecordSpec(hz=hz, segmentation_hz=5).mask_every for hz in (20, 16, 8, 4)] == [4, 3, 2, 1]
    assert RecordSpec(segmentation_hz=0).mask_every == 0
