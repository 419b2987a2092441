"""tokens.h5: the ids that training reads are those of the captions, split by split.

Run: .venv/bin/python -m pytest tests/unit/text/test_token_store.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.captions import CaptionRecord, write_captions
from pipeline.errors import PipelineError
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import (
    TokenizeSummary,
    read_tokens,
    require_tokenizer,
    tokenize_captions,
)
from tests.caption_tokenizers import caption_tokenizer

RECORDS = [
    CaptionRecord("a.png", "train", ("A small red circle.", "There is one circle")),
    CaptionRecord("b.png", "dev", ("Two shapes",)),
    CaptionRecord("c.png", "train", ("A large green square in the top left corner.",)),
    CaptionRecord("d.png", "test", ("One star", "A star", "A picture of a star")),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> CaptionTokenizer:
    return caption_tokenizer(tiny_llama, lowercase=True)


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.jsonl"
    write_captions(path, RECORDS)
    return path


@pytest.fixture
def tokens(tmp_path: Path, captions: Path, tokenizer: CaptionTokenizer) -> Path:
    path = tmp_path / "tokens.h5"
    tokenize_captions(captions, path, tokenizer)
    return path


def test_each_split_reads_back_its_captions(tokens: Path, tokenizer: CaptionTokenizer) -> None:
    for split in ("train", "dev", "test"):
        read = read_tokens(tokens, split)
        records = [record for record in RECORDS if record.split == split]
        assert read.image_ids == [record.image_id for record in records]
        assert [[ids.tolist() for ids in of_image] for of_image in read.captions] == [
            [tokenizer.encode_caption(caption) for caption in record.captions] for record in records
        ]
        assert read.prompt == tokenizer.prompt
        assert read.spec == tokenizer.spec


def test_a_split_without_images_is_refused(tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    write_captions(tmp_path / "captions.jsonl", RECORDS[:1])
    tokenize_captions(tmp_path / "captions.jsonl", tmp_path / "tokens.h5", tokenizer)
    with pytest.raises(PipelineError, match="no captions of the test split"):
        read_tokens(tmp_path / "tokens.h5", "test")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], r"captions\.jsonl has no captions"),
        (
            [*RECORDS, CaptionRecord("e.png", "train", ("A star", " . "))],
            r"captions\.jsonl: the caption ' \. ' of e\.png has no words",
        ),
    ],
)
def test_captions_without_words_are_refused(
    tmp_path: Path, tokenizer: CaptionTokenizer, records: list[CaptionRecord], message: str
) -> None:
    """A period alone, once it is off, used to be trained on as a blank."""
    write_captions(tmp_path / "captions.jsonl", records)
    with pytest.raises(PipelineError, match=message):
        tokenize_captions(tmp_path / "captions.jsonl", tmp_path / "tokens.h5", tokenizer)


def test_longer_captions_are_cut_and_counted(
    tmp_path: Path,
    captions: Path,
    tiny_llama: Path,
    tokenizer: CaptionTokenizer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    every = [tokenizer.encode_caption(caption) for record in RECORDS for caption in record.captions]
    limit = sorted(map(len, every))[3]
    longer = sum(len(ids) > limit for ids in every)
    assert longer > 0
    total = sum(min(len(ids), limit) for ids in every)
    cutting = caption_tokenizer(tiny_llama, lowercase=True, max_caption_tokens=limit)
    done = tokenize_captions(captions, tmp_path / "tokens.h5", cutting)
    assert done == TokenizeSummary(captions=7, tokens=total, longest=limit, truncated=longer)
    assert f"{longer} captions cut to prompt.max_caption_tokens = {limit}" in caplog.text
    read = read_tokens(tmp_path / "tokens.h5", "train")
    assert read.captions[1][0].tolist() == tokenizer.encode_caption(RECORDS[2].captions[0])[:limit]
    # One that has just the allowed length is whole.
    assert sum(len(ids) == limit for ids in every) > 0
    for split in ("train", "dev", "test"):
        whole = [
            [len(tokenizer.encode_caption(caption)) <= limit for caption in record.captions]
            for record in RECORDS
            if record.split == split
        ]
        truncated = read_tokens(tmp_path / "tokens.h5", split).truncated
        assert [[not cut for cut in of_image] for of_image in truncated] == whole


def test_equal_captions_give_equal_bytes(
    tmp_path: Path, captions: Path, tokens: Path, tokenizer: CaptionTokenizer
) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    tokenize_captions(captions, again, tokenizer)
    assert again.read_bytes() == tokens.read_bytes()


@pytest.mark.parametrize(("key", "other"), [("name", "org/other"), ("revision", "abc"), ("digest", "000")])
def test_tokens_of_another_tokenizer_are_refused(
    tokens: Path, tokenizer: CaptionTokenizer, key: str, other: str
) -> None:
    read, spec = read_tokens(tokens, "train"), tokenizer.spec
    wanted: dict[str, Any] = {key: spec[key] for key in ("name", "revision", "digest")}
    require_tokenizer(read, **wanted)
    with pytest.raises(PipelineError, match="files changed" if key == "digest" else f"{key} .* to '{other}'"):
        require_tokenizer(read, **{**wanted, key: other})


# --- stores that are not what they should be --------------------------------------------------------


def refused(tokens: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read_tokens(tokens, "train")
    assert str(caught.value).startswith(str(tokens))
    return str(caught.value)


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    assert "none.h5 does not exist. Fix: run `dvc repro tokenize`" in refused(tmp_path / "none.h5")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_store_is_refused(tokens: Path, share: float) -> None:
    content = tokens.read_bytes()
    tokens.write_bytes(content[: int(len(content) * share)])
    assert "not a readable token store" in refused(tokens)


@pytest.mark.parametrize(
    "name", ["token_ids", "offsets", "image_row", "truncated", "prompt_before", "prompt_after"]
)
def test_a_flipped_bit_is_found_in_every_array(tokens: Path, name: str) -> None:
    with h5py.File(tokens, "r") as file:
        place = file[name].id.get_offset()
    content = bytearray(tokens.read_bytes())
    content[place] ^= 1
    tokens.write_bytes(content)
    assert "not a readable token store (its checksum is wrong)" in refused(tokens)


@pytest.mark.parametrize("name", [b"a.png", b"train", b"lowercase"])
def test_a_flipped_bit_is_found_in_every_text(tokens: Path, name: bytes) -> None:
    content = tokens.read_bytes()
    assert name in content
    tokens.write_bytes(content.replace(name, bytes([name[0] ^ 1]) + name[1:], 1))
    assert "not a readable token store" in refused(tokens)


def _become_foreign(file: h5py.File) -> None:
    for name in list(file):
        del file[name]
    file.attrs.clear()
    file["numbers"] = np.arange(3)


def _vary_lengths(file: h5py.File, name: str) -> None:
    words = [word.decode() for word in file[name]]
    del file[name]
    file.create_dataset(name, data=words, dtype=h5py.string_dtype("utf-8"))


def _claim_much(file: h5py.File) -> None:
    del file["token_ids"]
    # Never written, so the file stays small; reading it would take four terabytes.
    file.create_dataset("token_ids", (10**12,), np.int32, chunks=(1024,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_become_foreign, "not a readable token store"),
        # Text of varying length lies in a heap without checksum; a damaged one may be searched for ever.
        (lambda file: _vary_lengths(file, "image_id"), "image_id is not a list of 4 texts"),
        (lambda file: _vary_lengths(file, "split"), "split is not a list of 4 texts"),
        (_claim_much, "claim more bytes than the file has"),
        (
            lambda file: file.attrs.modify("format_version", 99),
            "has format version 99",
        ),
    ],
)
def test_a_store_of_another_form_is_refused(
    tokens: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    with h5py.File(tokens, "r+") as file:
        change(file)
    assert message in refused(tokens)
