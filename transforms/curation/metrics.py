"""The known quality scores, by name. Metrics are always computed and stored; what they decide is a curation's business."""

from transforms.curation import proprio, timing, video
from transforms.curation.score import Metric

CODE = "1"  # raise when a score of the same episode changes

METRICS: dict[str, Metric] = {
    "idle": Metric("proprio", "less", "above 0.5", proprio.idling),
    "sparc": Metric("proprio", "more", "below -1.6, scaled to the data", proprio.smoothness),
    "ldlj": Metric("proprio", "more", "robust z below -3 within a task", proprio.jerk),
    "envelope": Metric("proprio", "less", "the worst tenth", proprio.envelope),
    "saturation": Metric("proprio", "less", "above 0.05", proprio.saturation),
    "tracking": Metric("proprio", "less", "robust z above 3 within a task", proprio.tracking_error),
    "chatter": Metric("proprio", "less", "above 0.2", proprio.chatter),
    "success": Metric("proprio", "more", "below 1", proprio.succeeded),
    "jitter": Metric("timing", "less", "above 0.1", timing.jitter),
    "gaps": Metric("timing", "less", "above 0", timing.gaps),
    "drift": Metric("timing", "less", "above one period", timing.drift),
    "sharpness": Metric("video", "more", "none: see blur", video.sharpness, pictures=True),
    "exposure": Metric("video", "less", "above 0.5", video.exposure, pictures=True),
    "freeze": Metric("video", "less", "above 0.5 s", video.freeze, pictures=True),
    "motion_vision": Metric("agreement", "more", "below 0.1", video.agreement, pictures=True),
    "blur": Metric("video", "more", "below 0.3", None),
    "consistency": Metric("agreement", "less", "above the 99.5th percentile", None),
    "progress": Metric("agreement", "more", "below 0", None),
}
