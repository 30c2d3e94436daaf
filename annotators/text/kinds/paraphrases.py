"""The task in other words: one paraphrase per cell of the 43-cell grid, with its distance. LeRobot's `task_aug`."""

from functools import lru_cache

from annotators.text.draft import Draft, pick
from annotators.text.scene import Scene
from transforms.language.instructions import parse_instruction
from transforms.language.lexical import lexical_pride
from transforms.language.lexicon import Lexicon
from transforms.language.paraphrases import paraphrase
from transforms.language.pride import Distance

LEXICON = Lexicon()
_PRIDE = lexical_pride(lexicon=LEXICON)
STYLE = "task_aug"


def paraphrases(scene: Scene) -> list[Draft] | str:
    """Return a draft per cell; a cell no rule reaches is one with a reason."""
    if scene.task is None:
        return "no_task"
    told = parse_instruction(scene.task, LEXICON)
    if told is None:
        return "task_not_parsed"
    made = paraphrase(told, LEXICON, lambda n: pick(n, "paraphrase", scene.task))
    return [draft_of(scene, p.text, p.cell) for p in made]


def draft_of(scene: Scene, text: str | None, cell: str) -> Draft:
    """Return a paraphrase of a scene's task as a draft."""
    assert scene.task is not None
    if text is None:
        return Draft("paraphrase", "grid", None, 0, scene.size, cell=cell, reason="no_rule_for_cell")
    d = _distance(text, scene.task)
    return Draft(
        "paraphrase", "grid", text, 0, scene.size, style=STYLE, slots={"task": scene.task}, source="task text",
        cell=cell, distance=(d.pd, d.keywords, d.structure, d.variant),
    )  # fmt: skip


@lru_cache(maxsize=1 << 14)  # episodes share their tasks
def _distance(text: str, task: str) -> Distance:
    return _PRIDE(text, task)
