"""Is a paraphrase as far from its task as its cell asks? Its words change where the cell says so, its frame where it says so."""

from annotators.text.draft import Draft
from transforms.language.paraphrases import CONTEXT, FRAMES, HABIT

_SYNONYMS = (CONTEXT, HABIT)


def in_cell(draft: Draft) -> bool:
    """Tell whether PD lies above 0 and its two parts lie where the cell puts them."""
    if draft.distance is None or draft.cell is None:
        return False
    pd, keywords, structure, _ = draft.distance
    thing, _, act = draft.cell.partition("+")
    renamed = thing in _SYNONYMS or act in _SYNONYMS
    return 0 < pd <= 1 and (not renamed or keywords < 1) and (act not in FRAMES or structure < 1)
