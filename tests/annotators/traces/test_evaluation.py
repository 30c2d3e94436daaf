from dataclasses import replace

import cv2
import numpy as np

from annotators.evaluation import QualityReport
from annotators.traces.evaluation import METRICS, evaluate_traces, predictiveness, read_scenes, waypoint_error
from annotators.traces.trace import Trace, TraceConfig
from annotators.traces.views import View
from tests.support.views import filmed

TRACE = Trace(TraceConfig(until="episode"))
SEEDS = tuple(range(8))


def reports(annotator: Trace, **options: object) -> dict[str, QualityReport]:
    return {r.metric: r for r in evaluate_traces(annotator, filmed(20, SEEDS, 6.0, noise_px=0.3), **options)}  # type: ignore[arg-type]


def turned(view: View) -> View:
    """A camera whose calibration is off by three degrees."""
    assert view.poses is not None
    pose = view.poses.copy()
    pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.radians([0.0, 3.0, 0.0]))[0]
    return replace(view, poses=pose)


def test_every_metric_passes_on_known_motion_before_a_known_camera() -> None:
    found = reports(TRACE)
    assert tuple(found) == METRICS
    assert {m: r.gate for m, r in found.items()} == dict.fromkeys(METRICS, "pass")
    assert all(r.baselines for r in found.values())
    assert found["pixel_error"].value is not None
    assert found["pixel_error"].value < 0.6


def test_a_camera_turned_by_three_degrees_fails_the_gate_of_pixels() -> None:
    assert reports(TRACE, disturb=turned)["pixel_error"].gate == "fail"


def test_random_waypoints_fail_their_gate_and_traces_of_other_times_theirs() -> None:
    batch = filmed(20, SEEDS, 6.0)
    scenes = read_scenes(TRACE, batch)
    assert not isinstance(scenes, str)
    assert waypoint_error(TRACE, scenes, seed=1).gate == "fail"
    assert predictiveness(TRACE, batch, scenes, shuffle=True).gate == "fail"
    straight = replace(TRACE, config=replace(TRACE.config, points=2))
    from annotators.traces.evaluation import line_distance

    assert line_distance(straight, scenes).gate == "fail"


def test_what_has_no_truth_is_not_measured() -> None:
    blind = {r.metric: r for r in evaluate_traces(TRACE, filmed(20, SEEDS, pixels=False))}
    assert blind["pixel_error"].gate == blind["dlt_pixel_error"].gate == "not-measurable"
    assert blind["waypoint_error"].value is not None
    refused = evaluate_traces(TRACE, filmed(20, SEEDS, pixels=False, calibration=False))
    assert {r.gate for r in refused} == {"not-measurable"}
    assert {r.gt_source for r in refused} == {"no_calibration"}
    assert {r.gate for r in evaluate_traces(TRACE, filmed(20).take([]))} == {"not-measurable"}
