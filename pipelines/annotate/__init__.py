"""Annotating: the stage that writes side tables, and the one that measures how good they are."""

from pipelines.annotate.quality import EvaluateStage as EvaluateStage
from pipelines.annotate.quality import evaluate as evaluate
from pipelines.annotate.stage import AnnotateStage as AnnotateStage
