"""On texts nobody here wrote: LIBERO's problem files and CALVIN's annotations."""

import re
from pathlib import Path

import pytest

from annotators.text.kinds.paraphrases import LEXICON
from annotators.text.kinds.plans import plan_steps
from annotators.text.verify.grounding import grounded
from annotators.text.verify.round_trip import says_the_same
from transforms.language.instructions import parse_instruction
from transforms.language.paraphrases import paraphrase


def libero(data: Path) -> list[str]:
    found = [
        re.search(r"\(:language (.*)\)", p.read_text()) for p in sorted((data / "annotation" / "libero_bddl").glob("*/*.bddl"))
    ]
    return [m[1] for m in found if m is not None]


def calvin(data: Path) -> list[str]:
    text = (data / "annotation" / "calvin_new_playtable_validation.yaml").read_text()
    return re.findall(r'^\w+: \[ ?"(.*)"\]', text, re.MULTILINE)


@pytest.mark.parametrize(("read", "count", "parsed", "planned"), [(libero, 20, 15, 15), (calvin, 34, 19, 17)])
def test_what_is_parsed_reads_back_from_every_cell(read: object, count: int, parsed: int, planned: int, data: Path) -> None:
    texts: list[str] = read(data)  # type: ignore[operator]
    told = {t: i for t in texts if (i := parse_instruction(t, LEXICON)) is not None}
    assert (len(texts), len(told)) == (count, parsed)
    assert sum(bool(plan_steps(t)) for t in texts) == planned
    for task, instruction in told.items():
        made = [p.text for p in paraphrase(instruction, LEXICON) if p.text is not None]
        assert len(made) >= 10  # no cell renames a noun the lexicon does not know
        assert all(says_the_same(t, task, LEXICON) and grounded(t, (task,), LEXICON) for t in made)


def test_the_problem_file_names_what_the_plan_handles(data: Path) -> None:
    """Every object a plan of `libero_goal` handles is in the problem's goal; a drawer is a region there, and goes by another name."""
    for path in sorted((data / "annotation" / "libero_bddl" / "libero_goal").glob("*.bddl")):
        text = path.read_text()
        task = re.search(r"\(:language (.*)\)", text)
        assert task is not None
        goal = text[text.index("(:goal") :].replace("_", " ").lower()
        nouns = {noun for (_, noun), _ in plan_steps(task[1])}
        assert nouns
        for noun in nouns:
            assert "drawer" in noun or all(w in goal for w in noun.split()), (task[1], noun)
