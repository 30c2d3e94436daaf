"""Paraphrases by rule over the 43 cells of LIBERO-Para: four ways with the object times eleven ways with the act, less the identity."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from transforms.language.instructions import Clause, Instruction, head
from transforms.language.lexicon import Lexicon

NONE, ADD, CONTEXT, HABIT = "none", "addition_deletion", "same_polarity_contextual", "same_polarity_habitual"
OBJECT_KINDS = (NONE, ADD, CONTEXT, HABIT)
FRAMES = (
    "coordination", "subordination", "need_statement", "embedded_imperative", "permission_directive", "question_directive", "hint",
)  # fmt: skip
ACT_KINDS = (*OBJECT_KINDS, *FRAMES)
GRID = tuple((thing, act) for thing in OBJECT_KINDS for act in ACT_KINDS if (thing, act) != (NONE, NONE))


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """One text of one cell; `text` is None where no rule of the lexicon reaches the cell."""

    thing: str
    act: str
    text: str | None

    @property
    def cell(self) -> str:
        """Both kinds, as one name."""
        return f"{self.thing}+{self.act}"


def paraphrase(told: Instruction, lexicon: Lexicon, draw: Callable[[int], int] = lambda _: 0) -> Iterator[Paraphrase]:
    """Yield one paraphrase per cell, in the grid's order.

    Args:
        told: the parsed instruction.
        lexicon: whose words are used.
        draw: takes how many choices there are and returns one of them.
    """
    for thing, act in GRID:
        renamed = [_renamed(c, thing, lexicon, draw) for c in told.clauses]
        if not any(changed for _, changed in renamed) and thing != NONE:
            yield Paraphrase(thing, act, None)
            continue
        yield Paraphrase(thing, act, _acted(tuple(c for c, _ in renamed), act, lexicon, draw))


def _renamed(clause: Clause, kind: str, lexicon: Lexicon, draw: Callable[[int], int]) -> tuple[Clause, bool]:
    """Change the object of a clause, or its place where the object has no other name."""
    if kind == NONE:
        return clause, False
    for part in ("object", "place"):
        phrase: str = getattr(clause, part)
        noun = head(phrase)
        table = lexicon.additions if kind == ADD else lexicon.nouns.get(kind, {})
        if noun and (choices := table.get(noun)):
            word = choices[draw(len(choices))]
            before, _, after = phrase.partition(noun)
            new = f"{before}{word} {noun}{after}" if kind == ADD else f"{before}{word}{after}"
            return replace(clause, **{part: new}), True
    return clause, False


def _acted(clauses: tuple[Clause, ...], kind: str, lexicon: Lexicon, draw: Callable[[int], int]) -> str | None:
    first, plain = clauses[0], Instruction(clauses).text
    if kind == NONE:
        return plain
    if kind == ADD:
        return f"{lexicon.manners[draw(len(lexicon.manners))]} {plain}"
    if kind in (CONTEXT, HABIT):
        table = lexicon.verbs.get(kind, {})
        if not any(c.verb in table for c in clauses):
            return None
        return Instruction(tuple(_reverbed(c, table, draw) for c in clauses)).text
    rest = "".join(f" and {c.text}" for c in clauses[1:])
    it = " ".join(p for p in (first.verb, "it", first.where) if p) + rest
    passive = [(c.object, lexicon.participle(c.verb), c.where) for c in clauses]

    def joined(middle: str) -> str:
        return " and ".join(" ".join(p for p in (o, middle, v, w) if p) for o, v, w in passive)

    made = {
        "coordination": f"find {first.object} and {it}",
        "subordination": f"once you have found {first.object}, {it}",
        "need_statement": f"I need {joined('to be')}",
        "embedded_imperative": f"could you please {plain}",
        "permission_directive": f"may I have {joined('')}",
        "question_directive": f"can {joined('be')}?",
        "hint": f"{joined('should be')}",
    }
    return made[kind]


def _reverbed(clause: Clause, table: Mapping[str, tuple[str, ...]], draw: Callable[[int], int]) -> Clause:
    choices = table.get(clause.verb)
    return replace(clause, verb=choices[draw(len(choices))]) if choices else clause
