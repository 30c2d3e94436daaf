"""Does a text speak only of what is there? Every noun it uses must be declared: an object of the scene, or a word of the task."""

from collections.abc import Iterable

from transforms.language.instructions import words
from transforms.language.lexicon import Lexicon


def grounded(text: str, declared: Iterable[str], lexicon: Lexicon) -> bool:
    """Tell whether every known noun of `text` is declared, by itself or by a synonym.

    Args:
        text: what is judged.
        declared: names of objects, and the task.
        lexicon: its nouns are the ones looked for; words it does not know cannot be judged and pass.
    """
    there = {w for name in declared for w in words(name)}
    fine = there | {w for noun in there for w in _names(noun, lexicon)}
    known = {w for table in lexicon.nouns.values() for noun, others in table.items() for w in (noun, *_last(others))}
    return all(w in fine for at, w in enumerate(words(text)) if w in known and not (at == 0 and w == "can"))  # "can the ...?"


def _names(noun: str, lexicon: Lexicon) -> set[str]:
    found = {w for table in lexicon.nouns.values() for other in table.get(noun, ()) for w in other.split()}
    return found | {w for other in lexicon.additions.get(noun, ()) for w in other.split()}


def _last(phrases: tuple[str, ...]) -> list[str]:
    return [p.split()[-1] for p in phrases]
