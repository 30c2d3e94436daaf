"""Sequences of acts that could not have happened: one edit away from the episode's own, against a mined constraint (PlausiVL)."""

from annotators.text.config import TextConfig
from annotators.text.draft import Draft, pick
from annotators.text.scene import Scene
from transforms.language.sequences import Act, corrupt, repetition_weights


def implausible(scene: Scene, config: TextConfig) -> list[Draft] | str:
    """Return one corrupted sequence of an episode's acts."""
    if config.constraints.empty:
        return "no_constraints"  # they are mined by calibrate=true
    acts = tuple(p.act for p in scene.parts)
    made = corrupt(acts, config.constraints, lambda n: pick(n, scene.episode, "implausible"))
    if made is None:
        return "nothing_to_break"
    wrong, broken = made
    slots = {"acts": [list(a) for a in wrong], "repetition": list(repetition_weights(wrong))}
    return [
        Draft(
            "implausible", broken[0], spoken(wrong), 0, scene.size, slots=slots, source="constraints of the dataset",
            negative_of=spoken(acts), violation=" ".join(broken),
        )
    ]  # fmt: skip


def spoken(acts: tuple[Act, ...]) -> str:
    """Return acts as verb-noun words, in order."""
    return ", ".join(f"{verb} {noun}".strip() for verb, noun in acts)
