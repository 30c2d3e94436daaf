"""Can what a text means be read back from its words? A parser of movements, and one of paraphrases; neither knows how they were written."""

import re

from transforms.language.instructions import head, parse_instruction, words
from transforms.language.lexicon import Lexicon

_AXES = (("backward", "forward"), ("right", "left"), ("down", "up"))
_MOVE = re.compile(
    r"\bmoves? ((?:backward|forward|right|left|down|up)(?:(?:, | and |, and )(?:backward|forward|right|left|down|up))*)"
)


def read_code(text: str) -> tuple[int, int, int] | None:
    """Return the movement a rationale states, as signs along x, y, z; None where it states none, or contradicts itself."""
    stated = _MOVE.findall(text.lower())
    if not stated:
        return None
    told = set(re.findall(r"[a-z]+", " ".join(stated))) - {"and"}
    if any(low in told and high in told for low, high in _AXES):
        return None
    x, y, z = (int(high in told) - int(low in told) for low, high in _AXES)
    return x, y, z


def says_the_same(text: str, task: str, lexicon: Lexicon) -> bool:
    """Tell whether a paraphrase names every act, object and place of its task, by themselves or by a synonym, acts in order."""
    told = parse_instruction(task, lexicon)
    if told is None:
        return False
    found, at = words(text), 0
    for clause in told.clauses:
        for noun in (head(clause.object), head(clause.place)):
            if noun and not any(_within(name, found) for name in _nouns(noun, lexicon)):
                return False
        places = [p for name in _verbs(clause.verb, lexicon) if (p := _find(name, found, at)) is not None]
        if not places:
            return False
        at = min(places) + 1
    return True


def _nouns(noun: str, lexicon: Lexicon) -> set[str]:
    return {noun} | {o for table in lexicon.nouns.values() for o in table.get(noun, ())}


def _verbs(verb: str, lexicon: Lexicon) -> set[str]:
    plain = {verb} | {o for table in lexicon.verbs.values() for o in table.get(verb, ())}
    return plain | {lexicon.participle(v) for v in plain}


def _within(phrase: str, found: tuple[str, ...]) -> bool:
    wanted = phrase.split()
    return any(list(found[i : i + len(wanted)]) == wanted for i in range(len(found)))


def _find(phrase: str, found: tuple[str, ...], start: int) -> int | None:
    """First place of a verb: its first word there, its particle anywhere after it ("turn it on")."""
    first, *rest = phrase.split()
    for i in range(start, len(found)):
        if found[i] == first and all(w in found[i + 1 :] for w in rest):
            return i
    return None
