"""Caption tokens: `pytest tests/unit/metrics/test_tokenizer.py`."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.tokenizer import tokenize

# By rule: captions and what pycocoevalcap 1.2 returns for them (Java, Stanford CoreNLP 3.4.1). Tokens are
# parted by blanks; ~ is a blank inside a token.
TOKENS = json.loads(Path(__file__).with_name("tokens.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("rule", TOKENS)
def test_tokens_are_those_of_the_reference(rule: str) -> None:
    for caption, tokens in TOKENS[rule].items():
        assert tokenize(caption) == [token.replace("~", "\u00a0") for token in tokens.split()], caption


@given(st.text() | st.text(st.sampled_from("aAbst5 .,'-:;!?()<>/&@#$\u2019\u00a0\u00bd")))
def test_any_text_gives_lower_case_tokens_without_spaces_or_marks_of_the_list(text: str) -> None:
    tokens = tokenize(text)
    assert all(token and token == token.lower() and " " not in token for token in tokens)
    assert not {".", ",", "?", "!", ":", ";", "-", "--", "...", "'", "''", "`", "``"} & set(tokens)


@given(st.text(st.sampled_from("aAbst5 .,'-:;!?()<>/&@#$")))
def test_letters_and_digits_are_never_lost(text: str) -> None:
    tokens = "".join(tokenize(text)).replace("-lrb-", "").replace("-rrb-", "")
    assert [*filter(str.isalnum, tokens)] == [*filter(str.isalnum, text.lower())]
