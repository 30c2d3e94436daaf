"""Questions with one right answer, from known state, in the four abilities of CFG-Bench.

Within an episode every answer offered with a question is the right one equally often, and sits at every place equally often. So whoever
sees only the question and its choices can do no better than guess, however the episode went.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from annotators.text.config import TextConfig
from annotators.text.draft import Draft, pick
from annotators.text.scene import Part, Scene
from schemas.annotation import Question

STYLE = "vqa"
ABILITIES = ("interaction", "temporal", "intention", "evaluation")
_PURPOSEFUL = ("reach", "transport", "rotate", "idle")
_EVENTS = ("grasp", "push", "place", "release")
_AT_THE_END = ("next_act", "displaced")  # asked about the last moment of their part; others about its first
_ABOUT = {
    "nearest": ("gripper", "nearest object"),
    "gripper": ("gripper", "state"),
    "next_act": ("robot", "next act"),
    "purpose": ("robot", "purpose"),
    "displaced": ("", "moved"),
}  # label and attribute of an answer


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer before its question is balanced."""

    ability: str
    template: str
    question: str
    answer: str
    part: Part
    thing: str = ""


def questions(scene: Scene, config: TextConfig) -> list[Draft] | str:
    """Return balanced questions; a reason where the episode offers no contrast to ask about."""
    groups: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts(scene, config):
        groups[fact.question].append(fact)
    drafts = [d for name in sorted(groups) for d in _balanced(scene, groups[name], config)]
    return drafts or "no_contrast"


def facts(scene: Scene, config: TextConfig) -> Iterator[Fact]:
    """Yield everything that could be asked about an episode, one fact per part and template."""
    for at, part in enumerate(scene.parts):
        yield from _interaction(scene, part)
        if at + 1 < len(scene.parts):
            yield Fact("temporal", "next_act", "What does the robot do right after this part?", scene.parts[at + 1].text, part)
        ahead = next((p for p in scene.parts[at + 1 :] if p.verb in _EVENTS), None)
        if part.verb in _PURPOSEFUL and ahead is not None:
            yield Fact("intention", "purpose", "What is the robot about to achieve with this part?", ahead.text, part)
        for name, place in scene.things.items():
            far = float(np.linalg.norm(place[:, part.stop - 1] - place[:, 0])) > config.moved_m
            asked = f"At the end of this part, is the {name} more than {config.moved_m * 100:g} cm from where it began?"
            yield Fact("evaluation", "displaced", asked, "yes" if far else "no", part, name)


def placed(drafts: list[Draft]) -> list[Draft]:
    """Return an episode's drafts where no two questions about a camera's picture share a moment: LeRobot asks one per frame and camera.

    Each is moved to the nearest free step of its part; one that finds none stays in the side table.
    """
    taken, result = set[int](), list(drafts)
    for n, draft in enumerate(drafts):
        if draft.style == STYLE and draft.reason is None:
            wanted = draft.first if draft.at is None else draft.at
            free = [s for s in range(draft.first, draft.stop) if s not in taken]
            at = min(free, key=lambda s, w=wanted: (abs(s - w), s), default=None)
            result[n] = replace(draft, at=at, style=None if at is None else STYLE)
            taken.update(() if at is None else (at,))
    return result


def threshold(opening: np.ndarray) -> float | None:
    """Return the opening above which a gripper is open; None where it hardly moves."""
    low, high = float(opening.min()), float(opening.max())
    return (low + high) / 2 if high - low > 0.2 else None


def _interaction(scene: Scene, part: Part) -> Iterator[Fact]:
    if scene.hand is not None and len(scene.things) > 1:
        apart = {n: float(np.linalg.norm(p[:, part.first] - scene.hand[:, part.first])) for n, p in scene.things.items()}
        asked = "Which object is nearest to the gripper when this part begins?"
        yield Fact("interaction", "nearest", asked, min(apart, key=apart.__getitem__), part)
    limit = None if scene.opening is None else threshold(scene.opening)
    if scene.opening is not None and limit is not None:
        state = "open" if scene.opening[part.first] > limit else "closed"
        yield Fact("interaction", "gripper", "Is the gripper open or closed when this part begins?", state, part)


def _balanced(scene: Scene, found: list[Fact], config: TextConfig) -> Iterator[Draft]:
    """Yield as many questions for each answer as the rarest of them has; places are dealt from a shuffled deck."""
    by_answer: dict[str, list[Fact]] = defaultdict(list)
    for fact in found:
        by_answer[fact.answer].append(fact)
    key = (scene.episode, found[0].question)
    offered = sorted(by_answer, key=lambda a: pick(1 << 50, *key, "choice", a))[: config.choices]
    if len(offered) < 2:
        return
    least, count = min(len(by_answer[a]) for a in offered), len(offered)
    offset, each = pick(count, *key, "deck"), list[tuple[Fact, int]]()
    for rank, answer in enumerate(offered):
        kept = sorted(by_answer[answer], key=lambda f: pick(1 << 50, *key, "kept", f.part.first))[:least]
        each += [(fact, (offset + rank + turn) % count) for turn, fact in enumerate(kept)]
    for fact, place in sorted(each, key=lambda e: e[0].part.first):
        others = sorted((a for a in offered if a != fact.answer), key=lambda a: pick(1 << 50, *key, fact.part.first, a))
        choices = (*others[:place], fact.answer, *others[place:])
        yield _draft(scene, fact, choices)


def _draft(scene: Scene, fact: Fact, choices: tuple[str, ...]) -> Draft:
    label, attribute = _ABOUT[fact.template]
    slots = {
        "ability": fact.ability, "verb": fact.part.verb, "noun": fact.part.noun, "thing": fact.thing, "label": label or fact.thing,
        "attribute": attribute,
    }  # fmt: skip
    return Draft(
        "qa", fact.template, as_json(fact.question, choices, fact.answer, slots), fact.part.first, fact.part.stop,
        at=fact.part.stop - 1 if fact.template in _AT_THE_END else fact.part.first, style=STYLE if scene.camera else None, question=fact.question, choices=choices, answer=fact.answer, slots=slots,
        source="simulator state" if fact.template in ("nearest", "displaced") else "proprioception and segments",
    )  # fmt: skip


def as_json(question: str, choices: tuple[str, ...], answer: str, slots: Mapping[str, Any]) -> str:
    """Return a question as one JSON text; exporters write it as their format has it (`schemas.annotation.Question`)."""
    return Question(question, choices, answer, str(slots["label"]), str(slots["attribute"])).to_json()
