"""The weight-free variant of PRIDE: content words by weighted F1 with a synonym table, structure by a tree of word classes.

Its numbers are ours alone; `transforms.language.pride.LEXICAL` is their name.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transforms.language.instructions import words
from transforms.language.lexicon import Lexicon
from transforms.language.pride import ALPHA, LEXICAL, Pride
from transforms.language.trees import Tree, similarity

SYNONYM = 0.6  # what a synonym is worth of the word itself
_CLASSES: Mapping[str, str] = {
    **dict.fromkeys(("the", "a", "an", "this", "that", "both"), "det"),
    **dict.fromkeys(("on", "in", "to", "of", "into", "onto", "inside", "at", "from", "with", "under", "beside", "behind", "for"), "prep"),
    **dict.fromkeys(("and", "or", "then", "once", "after", "so", "because", "before"), "mark"),
    **dict.fromkeys(("i", "you", "it", "me", "we", "there"), "pron"),
    **dict.fromkeys(("is", "be", "are", "can", "could", "would", "may", "should", "have", "has", "been", "will", "need", "please"), "aux"),
}  # fmt: skip


@dataclass(frozen=True)
class LexicalSimilarity:
    """S_K and S_T from words alone.

    Attributes:
        idf: weight of each content word; one not listed has the largest.
        lexicon: whose synonyms count in part.
    """

    idf: Mapping[str, float] = field(default_factory=dict[str, float])
    lexicon: Lexicon = field(default_factory=Lexicon)

    def keywords(self, text: str, original: str) -> float:
        """Weighted F1 of content words; the best partner of a word counts 1 where equal, `SYNONYM` where a synonym."""
        a, b = content(text), content(original)
        if not a or not b:
            return float(a == b)
        return 2 * (p := self._covered(a, b)) * (r := self._covered(b, a)) / (p + r) if self._covered(a, b) else 0.0

    def structure(self, text: str, original: str) -> float:
        """Similarity of the trees of word classes: words themselves do not count."""
        return similarity(shape(text, self.lexicon), shape(original, self.lexicon))

    def _covered(self, mine: tuple[str, ...], others: tuple[str, ...]) -> float:
        total = sum(self._weight(w) for w in mine)
        return sum(self._weight(w) * max(self._alike(w, o) for o in others) for w in mine) / total

    def _weight(self, word: str) -> float:
        return self.idf.get(word, max(self.idf.values(), default=1.0))

    def _alike(self, one: str, other: str) -> float:
        if one == other:
            return 1.0
        for table in (*self.lexicon.nouns.values(), *self.lexicon.verbs.values()):
            for key, alternatives in table.items():
                known = {w for phrase in (key, *alternatives) for w in phrase.split()}
                if one in known and other in known:
                    return SYNONYM
        return 0.0


def lexical_pride(idf: Mapping[str, float] | None = None, lexicon: Lexicon | None = None, alpha: float = ALPHA) -> Pride:
    """Return the weight-free PRIDE, named `lexical`."""
    alike = LexicalSimilarity(idf or {}, lexicon or Lexicon())
    return Pride(alike.keywords, alike.structure, LEXICAL, alpha)


def learn_idf(instructions: Iterable[str]) -> dict[str, float]:
    """Return the inverse document frequency of every content word, `log(1 + N / n)`, smoothed so that none is zero."""
    each = [set(content(text)) for text in instructions]
    count = Counter(w for some in each for w in some)
    return {w: math.log(1 + len(each) / n) for w, n in sorted(count.items())}


def content(text: str) -> tuple[str, ...]:
    """Words that are no function words, in order."""
    return tuple(w for w in words(text) if w not in _CLASSES and not w.endswith("ly"))


def shape(text: str, lexicon: Lexicon) -> Tree:
    """Return a sentence as a tree: a clause of chunks, each headed by a preposition, an auxiliary, a mark, a verb, or a noun."""
    verbs = {v.split()[0] for v in lexicon.verb_names()}
    chunks, below, label = list[Tree](), list[Tree](), "start"
    for word in words(text):
        kind = _CLASSES.get(word) or ("verb" if word in verbs else "adv" if word.endswith("ly") else "word")
        if kind in ("prep", "mark", "verb"):
            chunks.append(Tree(label, tuple(below)))
            below, label = [], kind
        else:
            below.append(Tree(kind))
    return Tree("clause", tuple(c for c in (*chunks, Tree(label, tuple(below))) if c.label != "start" or c.below))
