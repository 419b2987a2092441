"""tokens.h5: the ids that training reads are those of the captions, split by split.

Run: .venv/bin/python -m pytest tests/unit/text/test_token_store.py
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.captions import CaptionRecord, Turn, write_captions
from pipeline.errors import PipelineError
from pipeline.text.prompt import CaptionTokenizer, Prompt
from pipeline.text.token_store import read_tokens, require_tokenizer, tokenize_captions
from tests.caption_tokenizers import caption_tokenizer
from tests.refusals import flipped, refusal

RECORDS = [
    CaptionRecord("a.png", "train", ("A small red circle.", "There is one circle")),
    CaptionRecord("b.png", "dev", ("Two shapes",)),
    CaptionRecord("c.png", "train", ("A large green square in the top left corner.",)),
    CaptionRecord("d.png", "test", ("One star", "A star", "A picture of a star")),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> CaptionTokenizer:
    return caption_tokenizer(tiny_llama, lowercase=True)


def tokenize(folder: Path, tokenizer: CaptionTokenizer, records: list[CaptionRecord]) -> str:
    write_captions(folder / "captions.jsonl", records)
    return tokenize_captions(folder / "captions.jsonl", folder / "tokens.h5", tokenizer)


@pytest.fixture
def tokens(tmp_path: Path, tokenizer: CaptionTokenizer) -> Path:
    tokenize(tmp_path, tokenizer, RECORDS)
    return tmp_path / "tokens.h5"


@pytest.mark.parametrize("limit", [48, 4])
def test_each_split_reads_back_its_captions_cut_to_the_limit(
    tmp_path: Path, tiny_llama: Path, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    tokenizer = caption_tokenizer(tiny_llama, lowercase=True, max_caption_tokens=limit)
    summary = tokenize(tmp_path, tokenizer, RECORDS)
    all_ids = {
        record.image_id: [tokenizer.encode_caption(caption) for caption in record.captions]
        for record in RECORDS
    }
    lengths = [len(ids) for captions in all_ids.values() for ids in captions]
    longer = sum(length > limit for length in lengths)
    # A caption of just this length is whole.
    assert (longer > 0) == (limit in lengths) == (limit == 4)
    cut = [min(length, limit) for length in lengths]
    assert summary == f"7 captions, {sum(cut)} tokens, longest {max(cut)}, {longer} cut"
    warning = f"{longer} captions cut to prompt.max_caption_tokens = {limit}"
    assert (warning in caplog.text) == (longer > 0)
    for split in ("train", "dev", "test"):
        store = read_tokens(tmp_path / "tokens.h5", split)
        assert store.image_ids == [record.image_id for record in RECORDS if record.split == split]
        captions = [all_ids[image_id] for image_id in store.image_ids]
        assert [[ids.tolist() for ids in row] for row in store.captions] == [
            [ids[:limit] for ids in row] for row in captions
        ]
        assert store.truncated == [[len(ids) > limit for ids in row] for row in captions]
        assert (store.prompt, store.spec) == (tokenizer.prompt, tokenizer.spec)


def test_a_conversation_is_one_row_up_to_an_answer_that_is_cut(tmp_path: Path, tiny_llama: Path) -> None:
    tokenizer = caption_tokenizer(tiny_llama, lowercase=True, max_caption_tokens=4)
    short, long = Turn("What is there?", "A star"), Turn("Where?", "in the top left corner of it")
    talks = ((short, short, long, short), (long,), (replace(short, question="What? " * 400),) * 2)
    record = replace(RECORDS[2], captions=(), conversations=talks)
    assert tokenize(tmp_path, tokenizer, [RECORDS[0], record]).endswith(", 3 conversations")
    store = read_tokens(tmp_path / "tokens.h5", "train")
    assert store.captions[1] == store.conversations[0] == []
    eos = [tokenizer.prompt.eos]
    first, then = (tokenizer.encode_question(short.question, follows) for follows in (False, True))
    answer, cut = [*tokenizer.encode_caption("a star"), *eos], tokenizer.encode_caption(long.answer)[:4]
    asked = [tokenizer.encode_question(long.question, follows) for follows in (True, False)]
    endless = tokenizer.encode_question(talks[2][0].question)
    rows = [
        ([first, then, asked[0]], [answer, answer, cut]),
        ([asked[1]], [cut]),
        ([endless], [answer]),  # the second turn would make it too long
    ]
    for branch, (questions, answers) in zip(store.conversations[1], rows, strict=True):
        parts = list(zip(questions, answers, strict=True))
        assert branch.ids.tolist() == [i for question, answer in parts for i in (*question, *answer)]
        assert branch.ids[branch.labeled].tolist() == [i for answer in answers for i in answer]
    with pytest.raises(PipelineError, match=r"the answer ' \. ' of c\.png has no words"):
        tokenize(tmp_path, tokenizer, [replace(record, conversations=((Turn("What?", " . "),),))])


def test_empty_captions_and_splits_are_refused(tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    refusal(tokenize, tmp_path, tokenizer, [], match="has no captions")
    # A single period, once it is off, used to be trained on as a blank.
    with pytest.raises(PipelineError, match=r"' \. ' of e\.png has no words"):
        tokenize(tmp_path, tokenizer, [CaptionRecord("e.png", "train", ("A star", " . "))])
    tokenize(tmp_path, tokenizer, RECORDS[:1])
    refusal(read_tokens, tmp_path / "tokens.h5", "test", match="no captions of the test split")


def test_equal_captions_give_equal_bytes(tmp_path: Path, tokens: Path, tokenizer: CaptionTokenizer) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    tokenize_captions(tmp_path / "captions.jsonl", again, tokenizer)
    assert again.read_bytes() == tokens.read_bytes()


@pytest.mark.parametrize(("key", "other"), [("name", "org/other"), ("revision", "abc"), ("digest", "000")])
def test_a_wrong_tokenizer_is_named(tokens: Path, tokenizer: CaptionTokenizer, key: str, other: str) -> None:
    store, spec = read_tokens(tokens, "train"), tokenizer.spec
    wanted: dict[str, Any] = {key: spec[key] for key in ("name", "revision", "digest")}
    require_tokenizer(store, **wanted)
    with pytest.raises(PipelineError, match="files changed" if key == "digest" else f"{key} .* to '{other}'"):
        require_tokenizer(store, **{**wanted, key: other})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("token_ids", None, "is not a readable token store"),
        # Text of varying length lies in a heap without checksum; a damaged heap may be searched for ever.
        ("image_id", {"data": list("abcd"), "dtype": h5py.string_dtype("utf-8")}, "not a list of 4 texts"),
        # Never written, so the file stays small; reading it would take four terabytes.
        ("token_ids", {"shape": 10**12, "dtype": np.int32, "chunks": (1024,)}, "more bytes than the file"),
    ],
)
def test_a_store_of_another_form_is_refused(tokens: Path, name: str, values: Any, message: str) -> None:
    with h5py.File(tokens, "r+") as file:
        del file[name]
        if values:
            file.create_dataset(name, **values)
    refusal(read_tokens, tokens, "train", match=message)


def test_a_missing_or_truncated_store_and_a_flipped_bit_are_refused(tokens: Path) -> None:
    content = tokens.read_bytes()
    with h5py.File(tokens, "r") as file:
        places = [values.id.get_offset() for values in file.values()]
    damaged = [content[: int(len(content) * share)] for share in (0, 0.1, 0.5, 0.99)]
    damaged += [flipped(content, place) for place in (*places, content.index(b"lowercase"))]
    for bad in damaged:
        tokens.write_bytes(bad)
        refusal(read_tokens, tokens, "train", match="not a readable token store")
    tokens.unlink()
    refusal(read_tokens, tokens, "train", match=r"tokens\.h5 does not exist")


def test_similar_captions_read_back(tmp_path: Path, tokens: Path, tiny_llama: Path) -> None:
    tokenizer = caption_tokenizer(tiny_llama, lowercase=True, similar_captions=2)
    write_captions(tmp_path / "captions.jsonl", RECORDS)
    tokenize_captions(tmp_path / "captions.jsonl", tmp_path / "similar.h5", tokenizer)
    read = read_tokens(tmp_path / "similar.h5", "train")
    assert read.prompt == tokenizer.prompt
    assert tokenizer.decode_caption(read.prompt.similar) == "Similar images show:"
    assert read.spec["similar_captions"] == 2
    plain = read_tokens(tokens, "train")
    assert plain.prompt == Prompt(read.prompt.before, read.prompt.after, read.prompt.eos)
    assert "similar" not in " ".join(plain.spec)
    with h5py.File(tokens) as file:
        assert not [name for name in file if re.search("similar|separator|turn", name)]
