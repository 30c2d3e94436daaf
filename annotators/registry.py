"""The known annotators. Other packages add theirs through the entry-point group `cotrain.annotators`."""

from collections.abc import Mapping
from typing import Any

from annotators.base import Annotator
from schemas.registry import Registry

ANNOTATORS = Registry(
    "annotator",
    "cotrain.annotators",
    {
        "action_tokens": "annotators.tokens.action_tokens:ActionTokens",
        "depth_tokens": "annotators.depth.depth_tokens:DepthTokens",
        "embedding": "annotators.embeddings.embedding:Embedding",
        "flow_latent": "annotators.latent.flow.flow_latent:FlowLatent",
        "gaze": "annotators.gaze.recorded:RecordedGaze",
        "gaze_chain": "annotators.gaze.chain:GazeChain",
        "language_motion": "annotators.motion.language_motion:LanguageMotion",
        "latent_action": "annotators.latent.latent_action:LatentAction",
        "latent_macro": "annotators.latent.macro.latent_macro:LatentMacro",
        "motion_corrections": "annotators.motion.corrections:MotionCorrections",
        "object_points": "annotators.traces.objects:ObjectPoints",
        "picture_quality": "annotators.pictures.picture_quality:PictureQuality",
        "predicted_gaze": "annotators.gaze.predicted:PredictedGaze",
        "pseudo_gaze": "annotators.gaze.pseudo:PseudoGaze",
        "segments": "annotators.segments.segments:Segments",
        "text": "annotators.text.text:Text",
        "trace": "annotators.traces.trace:Trace",
        "triplets": "annotators.triplets.triplets:Triplets",
    },
)


def open_annotator(name: str, settings: Mapping[str, Any] | None = None) -> Annotator:
    """Build the annotator called `name` with the given settings.

    Raises:
        UnknownNameError: there is none; the message names the nearest.
        UsageError: a setting is unknown or has the wrong type.
    """
    annotator: Annotator = ANNOTATORS.load(name).from_settings(settings or {})
    return annotator
