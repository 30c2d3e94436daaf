"""The grammar of short instructions: one or more clauses of verb, object, and where it goes. Anything else is not parsed, and says so."""

import re
from dataclasses import dataclass

from transforms.language.lexicon import Lexicon

RELATIONS = (
    "to the front of", "to the right of", "to the left of", "on top of", "in front of", "next to", "onto", "into", "inside", "under",
    "from", "beside", "behind", "with", "in", "on", "at", "to",
)  # fmt: skip
_ARTICLE = re.compile(r"^(the|a|an|both|both the)\s+")
_WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")


@dataclass(frozen=True, slots=True)
class Clause:
    """One act: "put" "the bowl" "on" "the plate". `relation` and `place` are empty where there are none."""

    verb: str
    object: str
    relation: str = ""
    place: str = ""

    @property
    def text(self) -> str:
        """The clause in words."""
        return " ".join(p for p in (self.verb, self.object, self.relation, self.place) if p)

    @property
    def where(self) -> str:
        """Relation and place."""
        return f"{self.relation} {self.place}".strip()


@dataclass(frozen=True, slots=True)
class Instruction:
    """What an instruction asks for, act by act."""

    clauses: tuple[Clause, ...]

    @property
    def text(self) -> str:
        """The instruction in plain words."""
        return " and ".join(c.text for c in self.clauses)


def parse_instruction(text: str, lexicon: Lexicon) -> Instruction | None:
    """Return the clauses of an instruction; None where a clause does not begin with a known verb or has no object."""
    clauses = list[Clause]()
    for part in re.split(r"\s+and\s+(?:then\s+)?", plain(text)):
        clause = _clause(part, lexicon)
        if clause is None:  # "both the soup and the sauce" too: more of the object, not another act
            return None
        clauses.append(clause)
    return Instruction(tuple(clauses)) if clauses else None


def plain(text: str) -> str:
    """Lower case, single spaces, no punctuation at the end."""
    return re.sub(r"\s+", " ", text.strip().lower()).rstrip(".?! ")


def words(text: str) -> tuple[str, ...]:
    """Words of a text in lower case, hyphens kept."""
    return tuple(_WORD.findall(text.lower()))


def head(phrase: str) -> str:
    """Return the noun a phrase is about: "the middle drawer of the cabinet" is about "drawer"."""
    inner = _ARTICLE.sub("", phrase).partition(" of ")[0].split()
    return inner[-1] if inner else ""


def bare(phrase: str) -> str:
    """Return a phrase without its article."""
    return _ARTICLE.sub("", phrase)


def _clause(text: str, lexicon: Lexicon) -> Clause | None:
    verb = next((v for v in lexicon.verb_names() if text == v or text.startswith(f"{v} ")), None)
    if verb is None:
        return None
    rest = text[len(verb) :].strip()
    if not rest:
        return None
    best = min(
        ((m.start(), -len(r), r) for r in RELATIONS if (m := re.search(rf"(?:^|\s){re.escape(r)}(?=\s|$)", rest)) is not None),
        default=None,
    )
    if best is None:
        return Clause(verb, rest)
    at, _, relation = best
    thing, place = rest[:at].strip(), rest[at:].strip()[len(relation) :].strip()
    return Clause(verb, thing, relation, place) if thing else None
