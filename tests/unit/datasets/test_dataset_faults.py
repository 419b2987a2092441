"""Datasets with missing, malformed or empty files: each fault a sentence naming file, line or image.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_dataset_faults.py
"""

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from tests.dataset_makers import (
    FLICKR_SPLITS,
    MAKERS,
    Source,
    bad_row,
    edit,
    karpathy_images,
    make_flickr8k,
    make_kaggle,
    make_karpathy,
    read,
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("flickr8k", "Flickr8k.token.txt"),
        ("karpathy", "dataset.json"),
        ("jsonl", "captions.jsonl"),
        ("csv", "captions.csv"),
    ],
)
def test_missing_root_says_what_belongs_there(tmp_path: Path, source: Source, expected: str) -> None:
    with pytest.raises(PipelineError, match=rf"data\.root is .*gone, which .*{expected}"):
        read(source, tmp_path / "gone")


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(PipelineError, match=r"data\.root is .*root, which is no folder"):
        read("csv", tmp_path / "root")


@pytest.mark.parametrize(
    ("source", "missing", "message"),
    [
        (
            "flickr8k",
            "Flicker8k_Dataset",
            "no folder Flicker8k_Dataset, Flickr8k_Dataset or Images",
        ),
        ("flickr8k", "Flickr8k.token.txt", "has neither Flickr8k.token.txt nor captions.txt"),
        ("flickr8k", "Flickr_8k.devImages.txt", "Flickr_8k.devImages.txt does not exist; put "),
        ("karpathy", "dataset.json", "needs dataset.json or exactly one dataset_.*, found none"),
        ("jsonl", "captions.jsonl", "captions.jsonl does not exist"),
        ("csv", "captions.csv", "captions.csv does not exist"),
    ],
)
def test_missing_files(tmp_path: Path, source: Source, missing: str, message: str) -> None:
    MAKERS[source](tmp_path)
    (tmp_path / missing).rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    with pytest.raises(PipelineError, match=message):
        read(source, tmp_path)


def test_kaggle_with_some_of_the_splits_only(tmp_path: Path) -> None:
    make_kaggle(tmp_path)
    (tmp_path / FLICKR_SPLITS["train"]).write_text("a.jpg\n")
    with pytest.raises(PipelineError, match=r"Flickr_8k\.devImages\.txt does not exist"):
        read("flickr8k", tmp_path)


def test_several_karpathy_files(tmp_path: Path) -> None:
    for name in ("dataset_coco.json", "dataset_flickr8k.json"):
        make_karpathy(tmp_path, name=name)
    with pytest.raises(PipelineError, match=r"found dataset_coco\.json, dataset_flickr8k\.json;"):
        read("karpathy", tmp_path)


@pytest.mark.parametrize(
    ("source", "file", "old", "new", "message"),
    [
        ("flickr8k", "Flickr8k.token.txt", "a.jpg#1\t", "a.jpg 1 ", r"token\.txt:2 is 'a\.jpg 1 "),
        ("flickr8k", "Flickr8k.token.txt", "a.jpg#1", "a.jpg#0", r"token\.txt:2 repeats caption 0"),
        (
            "jsonl",
            "captions.jsonl",
            '{"image": "b',
            '{image": "b',
            r"jsonl:2 is not valid JSON: Exp",
        ),
        (
            "jsonl",
            "captions.jsonl",
            '{"image": "a',
            '[1]\n{"image": "a',
            r"jsonl:1 holds \[1\], exp",
        ),
        (
            "jsonl",
            "captions.jsonl",
            '"image": "a',
            '"file": "a',
            r"jsonl:1: the image is None, exp",
        ),
        (
            "jsonl",
            "captions.jsonl",
            '{"image": "a',
            "[" * 99999,
            r"jsonl:1 is not valid JSON: nest",
        ),
        ("karpathy", "dataset.json", '"images"', '\n"images', r"dataset\.json:2 is not valid JSON"),
        ("karpathy", "dataset.json", '"images"', '"pictures"', r"dataset\.json lists no images"),
        ("karpathy", "dataset.json", "[{", "[7, {", r"dataset\.json: images\[0\] is 7, expected"),
        (
            "csv",
            "captions.csv",
            "image,",
            "file,",
            r"csv:1: the header is 'file,caption,split'; all",
        ),
        ("csv", "captions.csv", "1 of a", "1, of a", r"csv:3 has 4 cells, not 3 \(image,caption,s"),
        (
            "csv",
            "captions.csv",
            "a.jpg,Cap",
            'a.jpg,"Cap',
            r"csv:2 is malformed CSV: unexpected end",
        ),
        (
            "csv",
            "captions.csv",
            "Caption 0 of b.jpg .",
            '"A\nb"',
            r"csv:4 goes on in the next line",
        ),
        ("csv", "captions.csv", "Caption 0 of b.jpg .", '"A"b', r"csv:4 is malformed CSV: ',' exp"),
    ],
)
def test_malformed_lines(tmp_path: Path, source: Source, file: str, old: str, new: str, message: str) -> None:
    edit(MAKERS[source](tmp_path) / file, old, new)
    with pytest.raises(PipelineError, match=message):
        read(source, tmp_path)


def test_empty_csv(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").touch()
    with pytest.raises(PipelineError, match=r"captions\.csv is empty; expected the header"):
        read("csv", tmp_path)


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("flickr8k", "Flickr8k.token.txt"),
        ("flickr8k", "Flickr_8k.devImages.txt"),
        ("karpathy", "dataset.json"),
        ("jsonl", "captions.jsonl"),
        ("csv", "captions.csv"),
    ],
)
def test_not_utf8(tmp_path: Path, source: Source, file: str) -> None:
    path = MAKERS[source](tmp_path) / file
    line = path.read_bytes().count(b"\n") + 1
    path.write_bytes(path.read_bytes() + b"caf\xe9")
    with pytest.raises(PipelineError, match=rf"{file}:{line} is not UTF-8 \(byte 0xe9\)"):
        read(source, tmp_path)


@pytest.mark.parametrize("source", MAKERS)
def test_absent_images_are_counted_and_three_named(tmp_path: Path, source: Source) -> None:
    for image in MAKERS[source](tmp_path).rglob("*.jpg"):
        image.unlink()
    with pytest.raises(
        PipelineError, match=r"^a\.jpg, b\.jpg, c\.jpg, \.\.\.: 4 of 4 images of .* are not in "
    ):
        read(source, tmp_path)


def test_image_of_a_split_without_caption(tmp_path: Path) -> None:
    make_flickr8k(tmp_path)
    (tmp_path / FLICKR_SPLITS["dev"]).write_text("c.jpg\nx.jpg\n")
    with pytest.raises(PipelineError, match=r"^x\.jpg: no caption in .*token\.txt for 1 of 5 imag"):
        read("flickr8k", tmp_path)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "the image has no caption"),
        (None, "captions are None, expected a list of text"),
        ("A cat.", "captions are 'A cat.', expected a list of text"),
        ([3], "a caption is 3, expected text"),
        (["A cat.", " \t\n"], "a caption is empty"),
        (["x" * 2001], "the caption 'xxx.* has 2001 characters; allowed: at most 2000"),
        (["A\0cat"], r"the caption 'A.*cat' holds the control character '\\x00'"),
        (["A \x1bcat"], r".* holds the control character '\\x1b'"),
        (["A \ud800 cat"], r".* holds the control character '\\ud800'"),
    ],
)
def test_bad_captions(tmp_path: Path, captions: object, message: str) -> None:
    with pytest.raises(PipelineError, match=rf"captions\.jsonl:2: {message}"):
        read("jsonl", bad_row(tmp_path, captions=captions))


def test_caption_of_exactly_the_allowed_length(tmp_path: Path) -> None:
    items = read("jsonl", bad_row(tmp_path, captions=["x" * 2000]))
    assert len(items[1].captions[0]) == 2000


@pytest.mark.parametrize(
    ("source", "file", "old", "message"),
    [
        (
            "flickr8k",
            "Flickr8k.token.txt",
            "Caption 1 of a.jpg .",
            r"token\.txt:2: a caption is em",
        ),
        ("csv", "captions.csv", "Caption 1 of a.jpg .", r"csv:3: a caption is empty"),
        (
            "karpathy",
            "dataset.json",
            "Caption 1 of a.jpg .",
            r"images\[0\] \(a\.jpg\): a caption is",
        ),
    ],
)
def test_empty_caption_in_other_formats(
    tmp_path: Path, source: Source, file: str, old: str, message: str
) -> None:
    edit(MAKERS[source](tmp_path) / file, old, " ")
    with pytest.raises(PipelineError, match=message):
        read(source, tmp_path)


def test_karpathy_image_without_sentences(tmp_path: Path) -> None:
    images = karpathy_images()
    images[2]["sentences"] = []
    with pytest.raises(PipelineError, match=r"images\[2\] \(c\.jpg\): the image has no caption"):
        read("karpathy", make_karpathy(tmp_path, images))
