"""Is a paraphrase as far from its task as its cell asks? Its words change where the cell says so, its frame where it says so."""

from annotators.text.draft import Draft

_SYNONYMS = ("same_polarity_contextual", "same_polarity_habitual")
_FRAMES = (
    "coordination",
    "subordination",
    "need_statement",
    "embedded_imperative",
    "permission_directive",
    "question_directive",
    "hint",
)


def in_cell(draft: Draft) -> bool:
    """Tell whether PD lies above 0 and its two parts lie where the cell puts them."""
    if draft.distance is None or draft.cell is None:
        return False
    pd, keywords, structure, _ = draft.distance
    thing, _, act = draft.cell.partition("+")
    renamed = thing in _SYNONYMS or act in _SYNONYMS
    return 0 < pd <= 1 and (not renamed or keywords < 1) and (act not in _FRAMES or structure < 1)
