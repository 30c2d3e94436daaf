"""Does a rationale know the future? It is written again on an episode that ends with its span."""

from dataclasses import replace

from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.kinds.rationale import rationale_at
from annotators.text.scene import Scene


def causal(draft: Draft, scene: Scene, config: TextConfig) -> bool:
    """Tell whether the facts of a rationale are the same without any step after its span."""
    again = rationale_at(until(scene, draft.stop), draft.first, draft.stop - 1, config)
    return again is not None and again.slots == draft.slots


def until(scene: Scene, stop: int) -> Scene:
    """Return the scene as it was known before step `stop`: nothing later, and no acts, which are named knowing the end."""
    return replace(
        scene, seconds=scene.seconds[:stop], parts=(), seen=(), things={n: p[:, :stop] for n, p in scene.things.items()},
        hand=None if scene.hand is None else scene.hand[:, :stop], opening=None if scene.opening is None else scene.opening[:stop],
    )  # fmt: skip
