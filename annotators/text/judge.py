"""Puts every draft before the verifiers of its kind. What one of them refuses is kept as an invalid row that says which."""

import re
from collections import Counter, defaultdict

from annotators.text.config import TextConfig
from annotators.text.draft import Draft
from annotators.text.kinds.goals import progress
from annotators.text.kinds.paraphrases import LEXICON
from annotators.text.scene import Scene
from annotators.text.verify.causal import causal
from annotators.text.verify.cell import in_cell
from annotators.text.verify.derive import Truth
from annotators.text.verify.grounding import grounded
from annotators.text.verify.round_trip import read_code, says_the_same
from transforms.language.instructions import plain
from transforms.language.sequences import Act, violations


def judged(draft: Draft, scene: Scene, truth: Truth, start: int, config: TextConfig) -> Draft:
    """Return a draft with the verdicts of its kind; one that has a reason already is not judged.

    Args:
        draft: the text.
        scene: its episode.
        truth: raw state of the batch.
        start: first step of the episode in the batch.
        config: the annotator's settings.
    """
    if draft.reason is not None or draft.text is None:
        return draft
    verdicts = dict[str, bool]()
    match draft.kind:
        case "qa":
            verdicts = _question(draft, scene, truth, start, config)
        case "rationale":
            back = read_code(draft.text) == tuple(draft.slots["code"])
            there = grounded(draft.text, scene.things, LEXICON)
            verdicts = {"causal": causal(draft, scene, config), "round_trip": back, "grounded": there}
        case "paraphrase":
            task = str(draft.slots["task"])
            back, there = says_the_same(draft.text, task, LEXICON), grounded(draft.text, (task,), LEXICON)
            verdicts = {"in_cell": in_cell(draft), "round_trip": back, "grounded": there}
        case "implausible":
            acts: list[Act] = [(a[0], a[1]) for a in draft.slots["acts"]]
            verdicts = {"violates": bool(violations(acts, config.constraints)) and draft.text != draft.negative_of}
        case "goal":
            verdicts = {"reached": _reached(draft, scene, config.hold_s) == (draft.answer == "reached")}
        case "plan":
            found = draft.slots["segments"]
            verdicts = {"aligned": sum(s is not None for s in found) >= config.least_aligned * len(found)}
        case _:
            pass
    return draft.judged(**verdicts)


def _question(draft: Draft, scene: Scene, truth: Truth, start: int, config: TextConfig) -> dict[str, bool]:
    if draft.template in ("next_act", "purpose"):
        true = _act_shown(draft, scene, truth, start)
    else:
        true = truth.derived(draft, start, start + scene.size, config.moved_m)
    asked, first = plain(draft.question or ""), plain(str(draft.slots.get("asked_first", draft.question)))
    quiet = not any(_says(asked, c) and not _says(first, c) for c in draft.choices)
    return {"derived": true, "no_hint": quiet}


def _says(text: str, choice: str) -> bool:
    return re.search(rf"\b{re.escape(plain(choice))}\b", text) is not None


def rebalanced(drafts: list[Draft]) -> list[Draft]:
    """Return an episode's drafts where, after refusals, every choice is again the answer of its question equally often."""
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for at, draft in enumerate(drafts):
        if draft.kind == "qa" and draft.reason is None:
            groups[draft.tier, draft.question].append(at)
    result = list(drafts)
    for places in groups.values():
        count = Counter(drafts[at].answer for at in places)
        least, kept = min(count[c] for c in drafts[places[0]].choices), Counter[str | None]()
        for at in places:
            kept[drafts[at].answer] += 1
            result[at] = drafts[at].judged(balanced=kept[drafts[at].answer] <= least)
    return result


def _act_shown(draft: Draft, scene: Scene, truth: Truth, start: int) -> bool:
    """Tell whether the first later part with the words of the answer is there, and whether the state shows it."""
    after = next((p for p in scene.parts if p.first >= draft.stop and p.text == draft.answer), None)
    return after is not None and truth.shows(after.verb, after.noun, start + after.first, start + min(after.stop, scene.size - 1))


def _reached(draft: Draft, scene: Scene, hold_s: float) -> bool:
    """Tell whether the goal holds over the whole of the last `hold_s` seconds."""
    assert draft.goal is not None
    state = progress(scene, str(draft.slots["object"]), str(draft.slots["state"]))
    held = state[scene.seconds >= scene.seconds[-1] - hold_s]
    return bool((abs(held - draft.goal[0]) <= draft.goal[1]).all())
