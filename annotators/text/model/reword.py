"""Drafts in a model's words: paraphrases, rationales and questions. What is true in them stays what the templates derived."""

from collections.abc import Iterator
from dataclasses import replace

from annotators.text.draft import Draft
from annotators.text.kinds.paraphrases import draft_of
from annotators.text.kinds.qa import as_json
from annotators.text.model.client import Answer, Client
from annotators.text.model.prompts import PARAPHRASE, QUESTION, RATIONALE, Prompt, Request
from annotators.text.scene import Scene


def reworded(drafts: list[Draft], scene: Scene, client: Client) -> Iterator[Draft]:
    """Yield what a model makes of a scene's usable drafts; a failed call is a draft with its reason."""
    usable = [d for d in drafts if d.reason is None]
    if any(d.kind == "paraphrase" for d in usable):
        yield from _paraphrases(scene, client)
    for draft in usable:
        if draft.kind == "rationale":
            facts = {k: v for k, v in draft.slots.items() if k != "code"} | {"move": draft.answer}
            answer = client.ask(Request(RATIONALE, facts))
            text = answer.value["rationale"] if answer.value else None
            yield _signed(replace(draft, text=text), RATIONALE, answer, client)
        elif draft.kind == "qa":
            answer = client.ask(Request(QUESTION, {"question": draft.question, "choices": sorted(draft.choices)}))
            asked = answer.value["question"] if answer.value else None
            text = None if asked is None else as_json(asked, draft.choices, draft.answer or "", draft.slots)
            slots = {**draft.slots, "asked_first": draft.question}
            yield _signed(replace(draft, question=asked, text=text, slots=slots), QUESTION, answer, client)


def _paraphrases(scene: Scene, client: Client) -> Iterator[Draft]:
    answer = client.ask(Request(PARAPHRASE, {"task": scene.task}))
    if answer.value is None:
        yield _signed(Draft("paraphrase", "grid", None, 0, scene.size), PARAPHRASE, answer, client)
        return
    for at, one in enumerate(answer.value["paraphrases"]):
        draft = draft_of(scene, one["text"], f"{one['object']}+{one['act']}")
        yield _signed(draft, PARAPHRASE, replace(answer, tokens=answer.tokens if at == 0 else 0), client)


def _signed(draft: Draft, prompt: Prompt, answer: Answer, client: Client) -> Draft:
    return replace(
        draft, tier="model", model_fp=client.model.fingerprint, prompt_fp=prompt.fingerprint,
        tokens=answer.tokens, verdicts={}, reason=None if answer.outcome == "ok" else answer.outcome,
    )  # fmt: skip
