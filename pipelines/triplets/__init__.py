"""Triplets beyond one episode: counterfactual takes of a simulated scene, and the image-pair dataset made of all of them."""

from pipelines.triplets.counterfactuals import CounterfactualStage as CounterfactualStage
from pipelines.triplets.stage import TripletsStage as TripletsStage
