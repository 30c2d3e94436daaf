"""The task as steps, by rule from its words, and each step's segment where the episode has one."""

from annotators.text.draft import Draft
from annotators.text.kinds.paraphrases import LEXICON
from annotators.text.scene import Part, Scene
from transforms.language.instructions import Clause, bare, parse_instruction
from transforms.language.sequences import Act

_CARRY = ("reach", "grasp", "transport", "place", "release")
_STEPS = {
    "put": _CARRY, "place": _CARRY, "stack": _CARRY, "move": _CARRY, "set": _CARRY, "insert": _CARRY,
    "push": ("reach", "push"), "turn on": ("reach", "push"), "turn off": ("reach", "push"), "close": ("reach", "push"),
    "pick up": ("reach", "grasp", "transport"), "lift": ("reach", "grasp", "transport"), "take": ("reach", "grasp", "transport"),
    "open": ("reach", "grasp", "transport", "release"), "pull": ("reach", "grasp", "transport", "release"),
    "rotate": ("reach", "grasp", "rotate", "release"), "grasp": ("reach", "grasp"),
}  # fmt: skip
_WORDS = {
    "reach": "reach for the {}", "grasp": "grasp the {}", "transport": "move the {}", "place": "place the {} {}", "release":
    "release the {}", "push": "push the {} {}", "rotate": "rotate the {}",
}  # fmt: skip


def plans(scene: Scene) -> list[Draft] | str:
    """Return the plan, and one draft per step: over its segment, or with the reason that no segment shows it."""
    if scene.task is None:
        return "no_task"
    steps = plan_steps(scene.task)
    if not steps:
        return "task_not_planned"
    matched = align([act for act, _ in steps], scene.parts)
    slots = {"steps": [list(a) for a, _ in steps], "segments": matched, "task": scene.task}
    text = "\n".join(f"{n}. {words}" for n, (_, words) in enumerate(steps, 1))
    drafts = [Draft("plan", "rules", text, 0, scene.size, style="plan", slots=slots, source="task text")]
    for n, ((act, words), at) in enumerate(zip(steps, matched, strict=True)):
        a, b = (0, scene.size) if at is None else (scene.parts[at].first, scene.parts[at].stop)
        why = "no_segment_for_step" if at is None else None
        about = {"step": n, "verb": act[0], "noun": act[1], "segment": at}
        drafts.append(Draft("plan_step", "rules", words, a, b, slots=about, source="segments", reason=why))
    return drafts


def plan_steps(task: str) -> list[tuple[Act, str]]:
    """Return the steps of a task, as acts and in words; empty where its words are not understood."""
    told = parse_instruction(task, LEXICON)
    if told is None or any(c.verb not in _STEPS for c in told.clauses):
        return []
    return [step for clause in told.clauses for step in _clause(clause)]


def align(steps: list[Act], parts: tuple[Part, ...]) -> list[int | None]:
    """Match steps to segments in order, as many as possible: for each the place of its segment, or None.

    A step and a segment match where they do the same, with the same thing as far as both say with what.
    """
    best = [[0] * (len(parts) + 1) for _ in range(len(steps) + 1)]
    for i in range(len(steps) - 1, -1, -1):
        for j in range(len(parts) - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + 1 if same(steps[i], parts[j].act) else 0)
    result: list[int | None] = [None] * len(steps)
    i = j = 0
    while i < len(steps) and j < len(parts):
        if same(steps[i], parts[j].act) and best[i][j] == best[i + 1][j + 1] + 1:
            result[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    return result


def same(step: Act, act: Act) -> bool:
    """Tell whether a step of a plan and a segment are the same act."""
    if step[0] != act[0]:
        return False
    mine, other = set(step[1].split()), set(act[1].split())
    return not mine or not other or mine <= other or other <= mine


def _clause(clause: Clause) -> list[tuple[Act, str]]:
    thing = bare(clause.object)
    noun = "" if thing == "it" else thing  # who "it" is, words alone do not say
    return [
        ((verb, noun), _WORDS[verb].format(thing, clause.where).replace("the it", "it").strip()) for verb in _STEPS[clause.verb]
    ]
