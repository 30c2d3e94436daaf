from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.language.contamination import contamination, held_out_texts, names, word_runs

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(" ".join)


def brute_rate(test: list[str], train: list[str], length: int) -> float:
    """Share of test texts of which some window of words stands in a training text, by looking at every pair of windows."""

    def windows(text: str) -> list[list[str]]:
        words = text.split()
        return [words[i : i + length] for i in range(max(len(words) - length + 1, 1))]

    hits = [any(a == b for other in train for a in windows(text) for b in windows(other)) for text in test]
    return sum(hits) / len(hits) if hits else 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12), st.lists(WORDS, max_size=12), st.integers(1, 4))
def test_contamination_is_what_looking_at_every_window_finds(test: list[str], train: list[str], length: int) -> None:
    found = contamination(test, train, lambda t: word_runs(t, length))
    assert found.rate == brute_rate(test, train, length)
    assert len(found.places) == len(found.shared) == round(found.rate * len(test))


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=20), st.integers(1, 4), st.floats(0, 1))
def test_a_held_out_part_shares_nothing_with_the_rest(texts: list[str], length: int, share: float) -> None:
    out = held_out_texts(texts, share, lambda t: word_runs(t, length))
    test, train = [[t for t, o in zip(texts, out, strict=True) if o == side] for side in (True, False)]
    assert brute_rate(test, train, length) == 0


def test_a_careless_split_is_contaminated() -> None:
    """The adversarial twin: the same question with another ending, on both sides."""
    text = "who wrote the book that was published in the year 1900 and sold well"
    found = contamination([text + " abroad"], [text + " at home", "something else entirely"])
    assert found.rate == 1
    assert found.shared[0] in text
    assert contamination(["Put the cup down."], ["put the cup DOWN"]).rate == 1, "shorter than a run: the whole text"


def test_names_do_not_include_beginnings_of_sentences() -> None:
    assert names("Who met Marie Curie in Paris? She did. The end.") == {"Marie Curie", "Paris"}
    assert contamination(["Where did Curie live?"], ["What did Curie find?"], names).shared == ("Curie",)
    assert contamination(["Where did Curie live?"], ["What did Bohr find?"], names).rate == 0


def test_more_texts_move_nobody() -> None:
    texts = [f"question number {n} asks about thing {n * n}" for n in range(60)]
    before = held_out_texts(texts, 0.3)
    assert 0.1 < before.mean() < 0.5
    after = held_out_texts([*texts, "something new and unrelated"], 0.3)
    assert (after[:60] == before).all()
