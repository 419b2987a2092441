"""Caption tokens: `pytest tests/unit/test_metrics_tokenizer.py`.

Every expected value is what pycocoevalcap 1.2 returns (Java, Stanford CoreNLP 3.4.1).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.tokenizer import tokenize


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A dog runs .", "a dog runs"),
        ("A dog runs.", "a dog runs"),
        ("The end. Next one", "the end next one"),
        ("a man ... waiting....", "a man waiting"),
        ("Dogs, cats; birds: fish - fast -- far", "dogs cats birds fish fast far"),
        ("is it red ? yes !", "is it red yes"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_captions_are_lower_case_words_without_sentence_marks(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("Washington d.c. is nice", "washington d.c. is nice"),
        ("in the U.S. today", "in the u.s. today"),
        ("in the U.S.", "in the u.s."),
        ("near St. Louis.", "near st. louis"),
        ("mr. smith vs. dr. jones", "mr. smith vs. dr. jones"),
        ("5 p.m., etc.", "5 p.m. etc."),
        ("a man in a no. 5 jersey says no.", "a man in a no. 5 jersey says no"),
        ("in Pa. and a pa. then", "in pa. and a pa then"),
    ],
)
def test_abbreviations_keep_their_period(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("he doesn't , can't and cannot", "he does n't ca n't and can not"),
        ("they're gonna win , I wanna bet", "they 're gon na win i wan na bet"),
        ("the dog's bone", "the dog 's bone"),
        ("the dogs' bones", "the dogs bones"),
        ("it 's a dog 's", "it 's a dog 's"),
        ("o'clock in the '90s , rock 'n' roll", "o'clock in the '90s rock 'n' roll"),
    ],
)
def test_contractions_and_possessives_are_parted(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    "caption",
    [
        'he said "hello" and left',
        "he said 'hello' and left",
        "he said ``hello'' and left",
        "he said \u201chello\u201d and left",
        "he said \u2018hello\u2019 and left",
    ],
)
def test_quotation_marks_of_every_kind_are_dropped(caption: str) -> None:
    assert tokenize(caption) == ["he", "said", "hello", "and", "left"]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("$3.50 for 1,000 apples", "$ 3.50 for 1,000 apples"),
        ("#5 and 50% at 5:30", "# 5 and 50 % at 5:30"),
        ("\u00a35 , \u20ac10 and \u00bd cup", "# 5 $ 10 and 1/2 cup"),
        ("1/2 of it on 10/12/2005", "1/2 of it on 10/12/2005"),
        ("6'2\" tall , -5 degrees", "6 2 tall -5 degrees"),
    ],
)
def test_numbers_stay_whole_and_lose_their_unit_signs(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("a well-known t-shirt", "a well-known t-shirt"),
        ("a -dog dog-", "a dog dog"),
        ("he and/or she w/ hats", "he and/or she w / hats"),
        ("black & white b&w R&B", "black & white b & w r&b"),
        ("a dog\u2014brown\u2026 running", "a dog brown running"),
        ("a caf\u00e9's pi\u00f1atas", "a caf\u00e9 's pi\u00f1atas"),
        ("a \U0001f600 dog\u00a0runs", "a dog runs"),
        ("visit http://x.com. or www.y.com.", "visit http://x.com or www.y.com"),
        ("<unk> dog", "<unk> dog"),
        ("a &quot;dog&quot; &amp; cat", "a dog & cat"),
    ],
)
def test_hyphens_slashes_and_symbols(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


def test_brackets_and_runs_of_marks_stay_as_in_the_reference() -> None:
    assert " ".join(tokenize("a man (in red) and {a} [dog]")) == (
        "a man -lrb- in red -rrb- and -lcb- a -rcb- -lsb- dog -rsb-"
    )
    assert tokenize("what?! no!!!") == ["what", "?!", "no", "!!!"]


@given(st.text())
def test_any_text_gives_lower_case_tokens_without_spaces(text: str) -> None:
    for token in tokenize(text):
        assert token == token.lower()
        assert token.split() == [token]


@given(st.lists(st.sampled_from(["a", "dog", "t-shirt", "d.c.", "n't", "'s", "3.5", "?!"])))
def test_tokens_joined_by_spaces_are_their_own_tokens(tokens: list[str]) -> None:
    assert tokenize(" ".join(tokens)) == tokens
