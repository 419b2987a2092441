"""tokens.h5: the ids that training reads are those of the captions, split by split.

Run: .venv/bin/python -m pytest tests/unit/text/test_token_store.py
"""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.captions import CaptionRecord, write_captions
from pipeline.errors import PipelineError
from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import (
    TokenizeSummary,
    read_tokens,
    require_tokenizer,
    tokenize_captions,
)

RECORDS = [
    CaptionRecord("a.png", "train", ("A small red circle.", "There is one circle")),
    CaptionRecord("b.png", "dev", ("Two shapes",)),
    CaptionRecord("c.png", "train", ("A large green square in the top left corner.",)),
    CaptionRecord("d.png", "test", ("One star", "A star", "A picture of a star")),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> CaptionTokenizer:
    prompt = PromptParams("Describe this image.", lowercase=True, strip_period=True, max_caption_tokens=48)
    return CaptionTokenizer(
        prompt, LanguageModelParams(str(tiny_llama), None, "nf4", double_quantization=False)
    )


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.jsonl"
    write_captions(path, RECORDS)
    return path


@pytest.fixture
def tokens(tmp_path: Path, captions: Path, tokenizer: CaptionTokenizer) -> Path:
    path = tmp_path / "tokens.h5"
    tokenize_captions(captions, path, tokenizer, max_tokens=48)
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
        assert read.spec == tokenizer.spec.as_dict()


def test_a_split_without_images_is_refused(tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    write_captions(tmp_path / "captions.jsonl", RECORDS[:1])
    tokenize_captions(tmp_path / "captions.jsonl", tmp_path / "tokens.h5", tokenizer, max_tokens=48)
    with pytest.raises(PipelineError, match="no captions of the test split"):
        read_tokens(tmp_path / "tokens.h5", "test")


def test_the_summary_counts(tmp_path: Path, captions: Path, tokenizer: CaptionTokenizer) -> None:
    lengths = [len(tokenizer.encode_caption(caption)) for record in RECORDS for caption in record.captions]
    done = tokenize_captions(captions, tmp_path / "tokens.h5", tokenizer, max_tokens=48)
    assert done == TokenizeSummary(captions=7, tokens=sum(lengths), longest=max(lengths), truncated=0)


def test_longer_captions_are_cut_and_counted(
    tmp_path: Path, captions: Path, tokenizer: CaptionTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    every = [tokenizer.encode_caption(caption) for record in RECORDS for caption in record.captions]
    limit = sorted(map(len, every))[3]
    longer = sum(len(ids) > limit for ids in every)
    assert longer > 0
    done = tokenize_captions(captions, tmp_path / "tokens.h5", tokenizer, max_tokens=limit)
    assert (done.truncated, done.longest) == (longer, limit)
    assert f"{longer} captions cut to prompt.max_caption_tokens = {limit}" in caplog.text
    cut = read_tokens(tmp_path / "tokens.h5", "train").captions[1][0]
    assert cut.tolist() == tokenizer.encode_caption(RECORDS[2].captions[0])[:limit]


def test_equal_captions_give_equal_bytes(
    tmp_path: Path, captions: Path, tokens: Path, tokenizer: CaptionTokenizer
) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    tokenize_captions(captions, again, tokenizer, max_tokens=48)
    assert again.read_bytes() == tokens.read_bytes()


def test_tokens_of_another_tokenizer_are_refused(tokens: Path, tokenizer: CaptionTokenizer) -> None:
    read, spec = read_tokens(tokens, "train"), tokenizer.spec
    require_tokenizer(read, spec.name, spec.revision, spec.digest)
    with pytest.raises(PipelineError, match=r"tokenizer name '.*', but the language model needs 'org/other'"):
        require_tokenizer(read, "org/other", spec.revision, spec.digest)
    with pytest.raises(PipelineError, match=r"tokenizer revision None, but .* needs 'abc'; run `dvc repro"):
        require_tokenizer(read, spec.name, "abc", spec.digest)
    with pytest.raises(PipelineError, match=r"tokenizer digest '.*', but .* needs '000'; run"):
        require_tokenizer(read, spec.name, spec.revision, "000")


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.h5 does not exist; run `dvc repro tokenize`"):
        read_tokens(tmp_path / "none.h5", "train")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_store_is_refused(tokens: Path, share: float) -> None:
    content = tokens.read_bytes()
    tokens.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PipelineError, match=r"tokens\.h5 is no readable token store .*; delete it and run"):
        read_tokens(tokens, "train")


def test_a_foreign_hdf5_file_is_refused(tokens: Path) -> None:
    with h5py.File(tokens, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(PipelineError, match=r"tokens\.h5 is no readable token store"):
        read_tokens(tokens, "train")


@pytest.mark.parametrize("name", ["token_ids", "offsets", "image_row", "prompt_before", "prompt_after"])
def test_a_flipped_bit_is_found_in_every_array(tokens: Path, name: str) -> None:
    with h5py.File(tokens, "r") as file:
        place = file[name].id.get_offset()
    content = bytearray(tokens.read_bytes())
    content[place] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"tokens\.h5 is no readable token store \(its checksum is wrong\)"
    ):
        read_tokens(tokens, "train")


@pytest.mark.parametrize("name", [b"a.png", b"train", b"lowercase"])
def test_a_flipped_bit_is_found_in_every_text(tokens: Path, name: bytes) -> None:
    content = tokens.read_bytes()
    assert name in content
    tokens.write_bytes(content.replace(name, bytes([name[0] ^ 1]) + name[1:], 1))
    with pytest.raises(PipelineError, match=r"tokens\.h5 is no readable token store"):
        read_tokens(tokens, "train")


@pytest.mark.parametrize("name", ["image_id", "split"])
def test_text_of_varying_length_is_refused_unread(tokens: Path, name: str) -> None:
    """It lies in a heap of HDF5's that has no checksum; a damaged one may be searched for ever."""
    with h5py.File(tokens, "r+") as file:
        words = [word.decode() for word in file[name]]
        del file[name]
        file.create_dataset(name, data=words, dtype=h5py.string_dtype("utf-8"))
    with pytest.raises(PipelineError, match=f"{name} is no list of 4 texts"):
        read_tokens(tokens, "train")


def test_a_store_that_claims_more_than_it_holds_is_refused(tokens: Path) -> None:
    with h5py.File(tokens, "r+") as file:
        del file["token_ids"]
        # Never written, so the file stays small; reading it would take four terabytes.
        file.create_dataset("token_ids", (10**12,), np.int32, chunks=(1024,))
    with pytest.raises(PipelineError, match="it claims more than it can hold"):
        read_tokens(tokens, "train")


def test_another_format_version_is_refused(tokens: Path) -> None:
    with h5py.File(tokens, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(
        PipelineError, match=r"tokens\.h5 has another format version; run `dvc repro tokenize`"
    ):
        read_tokens(tokens, "train")
