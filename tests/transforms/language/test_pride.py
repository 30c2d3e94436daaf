import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.language.instructions import parse_instruction
from transforms.language.lexical import learn_idf, lexical_pride, shape
from transforms.language.lexicon import Lexicon
from transforms.language.paraphrases import GRID, paraphrase
from transforms.language.pride import Pride, paraphrase_distance, pride
from transforms.language.trees import Tree, edit_distance, similarity

LEXICON = Lexicon()


def para(data: Path) -> list[dict[str, str]]:
    with (data / "annotation" / "libero_para_metadata.csv").open() as file:
        return list(csv.DictReader(file))


def test_tree_distance_of_the_paper_and_of_an_added_leaf() -> None:
    def t(label: str, *below: Tree) -> Tree:
        return Tree(label, below)

    one = t("f", t("d", t("a"), t("c", t("b"))), t("e"))  # the example of Zhang and Shasha's paper
    other = t("f", t("c", t("d", t("a"), t("b"))), t("e"))
    assert edit_distance(one, other) == edit_distance(other, one) == 2
    assert edit_distance(one, one) == 0
    assert similarity(t("v", t("n")), t("v", t("adv"), t("n"))) == 1 - 1 / 5


def test_pride_in_closed_form() -> None:
    assert paraphrase_distance(1, 1) == 0
    assert paraphrase_distance(0.6, 0.8) == pytest.approx(0.3)
    assert pride([True, False], [0.1, 0.3]) == pytest.approx(25)
    assert pride([True, True], [0.2, 0.7]) == 100
    assert np.isnan(pride([True], [0.0]))
    with pytest.raises(UsageError, match="2 outcomes for 1"):
        pride([True, False], [0.1])
    with pytest.raises(UsageError, match=r"must lie in 0\.\.1"):
        Pride(lambda _a, _b: 2.0, lambda _a, _b: 1.0, "broken")("a", "b")


def test_libero_para_closed_forms(data: Path) -> None:
    """With the file's own similarities as callables: PD is its formula, and the instruction itself is at 0."""
    rows = para(data)
    stored = {
        (r["new_instruction"], r["original_instruction"]): (float(r["keyword_similarity"]), float(r["structural_similarity"]))
        for r in rows
    }
    stored |= {(r["original_instruction"],) * 2: (1.0, 1.0) for r in rows}
    true = Pride(lambda t, o: stored[t, o][0], lambda t, o: stored[t, o][1], "published")
    found = [true(*key).pd for key in stored]
    assert found == pytest.approx([1 - 0.5 * (k + s) for k, s in stored.values()], abs=1e-6)
    assert all(true(r["original_instruction"], r["original_instruction"]).pd == 0 for r in rows)
    assert min(found) >= -1e-6
    assert max(found) <= 1
    assert pride([True] * len(found), found) == pytest.approx(100)


def test_the_grid_is_libero_paras(data: Path) -> None:
    cells = set[tuple[str, str]]()
    for r in para(data):
        thing, _, act = r["low"].partition("+")
        cells.add((thing, act) if r["high"] == "comp" else ("none", thing) if r["high"] == "act" else (thing, "none"))
    assert cells == set(GRID)
    assert len(GRID) == 43


def test_lexical_distance_ranks_as_the_published_one_does(data: Path) -> None:
    rows = para(data)[::30]
    mine = lexical_pride(learn_idf({r["original_instruction"] for r in rows}))
    assert {mine(r["original_instruction"], r["original_instruction"]).pd for r in rows} == {0.0}
    found = np.array([mine(r["new_instruction"], r["original_instruction"]).pd for r in rows])
    theirs = np.array([1 - 0.5 * (float(r["keyword_similarity"]) + float(r["structural_similarity"])) for r in rows])
    rank = np.corrcoef(found.argsort().argsort(), theirs.argsort().argsort())[0, 1]
    shuffled = np.corrcoef(np.roll(found, 41).argsort().argsort(), theirs.argsort().argsort())[0, 1]
    assert rank > 0.6
    assert shuffled < 0.4


def test_every_cell_of_a_known_instruction_has_its_own_words() -> None:
    told = parse_instruction("Put the bowl on the plate.", LEXICON)
    assert told is not None
    texts = {p.cell: p.text for p in paraphrase(told, LEXICON)}
    assert None not in texts.values()
    assert len(set(texts.values())) == len(GRID)
    assert texts["none+need_statement"] == "I need the bowl to be put on the plate"
    assert texts["none+subordination"] == "once you have found the bowl, put it on the plate"
    assert texts["addition_deletion+question_directive"] == "can the kitchen bowl be put on the plate?"
    assert texts["same_polarity_habitual+same_polarity_habitual"] == "set the basin on the plate"


def test_what_the_grammar_reads_and_what_it_does_not() -> None:
    told = parse_instruction("open the top drawer and put the bowl inside", LEXICON)
    assert told is not None
    assert [(c.verb, c.object, c.where) for c in told.clauses] == [("open", "the top drawer", ""), ("put", "the bowl", "inside")]
    assert parse_instruction("ponder the meaning of bowls", LEXICON) is None
    assert parse_instruction("put", LEXICON) is None
    cells = {p.cell: p.text for p in paraphrase(parse_instruction("push the gizmo", LEXICON), LEXICON)}  # type: ignore[arg-type]
    assert cells["same_polarity_habitual+none"] is None  # no rule reaches it, and the cell says so
    assert cells["none+hint"] == "the gizmo should be pushed"


def test_shapes_are_of_word_classes() -> None:
    assert shape("put the bowl on the plate", LEXICON) == shape("set the dish on the stand", LEXICON)
    texts = ["put the bowl on the plate", "gently put the bowl on the plate", "could you please put the bowl on the plate"]
    apart = [lexical_pride()(t, texts[0]).pd for t in texts]
    assert all(a < b for a, b in pairwise(apart))
