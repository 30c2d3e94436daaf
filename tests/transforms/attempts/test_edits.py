"""Edit scripts: they replay, and none is shorter."""

import csv
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from transforms.attempts.edits import Edit, common_length, over_correction, replay, script, tokens

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


def _brute(a, b) -> int:
    """Length of the longest common subsequence by trying everything."""
    if not a or not b:
        return 0
    return 1 + _brute(a[1:], b[1:]) if a[0] == b[0] else max(_brute(a[1:], b), _brute(a, b[1:]))


@given(WORDS, WORDS)
def test_scripts_replay_and_are_minimal(raw, corrected):
    edits = script(raw, corrected)
    assert list(replay(edits, raw)) == corrected
    common = _brute(raw, corrected)
    counts = {op: sum(e.op == op for e in edits) for op in ("GEN", "SKIP", "COPY")}
    assert counts == {"GEN": len(corrected) - common, "SKIP": len(raw) - common, "COPY": common}
    assert over_correction(edits, raw, corrected) == 0


def test_by_hand():
    edits = script(tokens("put the the cup in sink"), tokens("put the cup in the sink"))
    assert [e.op for e in edits].count("COPY") == 5
    assert Edit("GEN", "the") in edits


def test_a_script_for_another_text_is_refused():
    edits = script(("a", "b"), ("a",))
    with pytest.raises(DataError, match="another text"):
        replay(edits, ("a",))
    with pytest.raises(DataError, match="another text"):
        replay(edits, ("a", "b", "c"))


def test_a_lazy_script_over_corrects():
    raw, corrected = ("a", "b"), ("a", "c")
    rewrite = (Edit("SKIP"), Edit("SKIP"), Edit("GEN", "a"), Edit("GEN", "c"))
    assert replay(rewrite, raw) == corrected
    assert over_correction(rewrite, raw, corrected) == 1


def test_every_paraphrase_of_libero_para_replays(data):
    (path,) = data.glob("annotation/**/libero_para_metadata.csv")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4092
    for row in rows:
        raw, corrected = tokens(row["original_instruction"]), tokens(row["new_instruction"])
        edits = script(raw, corrected)
        assert replay(edits, raw) == corrected
        copies = sum(e.op == "COPY" for e in edits)
        assert copies == common_length(raw, corrected)[0, 0]
        assert copies >= sum(b.size for b in SequenceMatcher(None, raw, corrected, autojunk=False).get_matching_blocks())
