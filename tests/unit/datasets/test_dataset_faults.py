"""Datasets with missing, malformed or contradictory files: each fault a sentence naming file, line or image.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_dataset_faults.py
"""

import json
from pathlib import Path

import pytest

from tests.dataset_makers import FLICKR_SPLITS, MAKERS, edit, make_jsonl, make_kaggle, make_karpathy, read
from tests.refusals import refusal

LAYOUTS = {**MAKERS, "kaggle": make_kaggle}
# The file with captions of each layout.
FILES = {
    "flickr8k": "Flickr8k.token.txt",
    "karpathy": "dataset.json",
    "jsonl": "captions.jsonl",
    "csv": "captions.csv",
    "kaggle": "captions.txt",
}
# A layout, a text of its file with captions, what takes its place, the place that is named, and what of it.
MALFORMED = [
    ("flickr8k", "a.jpg#1\t", "a.jpg 1 ", ":2", r"'a\.jpg 1 "),
    ("flickr8k", "a.jpg#1", "a.jpg#0", ":2", r"caption 0 of 'a\.jpg'"),
    ("jsonl", '{"image": "b', '{image": "b', ":2", "JSON"),
    ("jsonl", '{"image": "a', '[1]\n{"image": "a', ":1", r"\[1\]"),
    ("jsonl", '"image": "a', '"file": "a', ":1", "image None"),
    ("jsonl", '"a.jpg"', "1" * 5000, ":1", "JSON: .*5000 digits"),
    ("karpathy", '"images"', '\n"images', ":2", "JSON"),
    ("karpathy", '"images"', '"pictures"', "", "no images"),
    ("karpathy", "[{", "[7, {", r": images\[0\]", "7"),
    ("csv", "image,", "file,", ":1", "'file,caption,split'.* image,caption"),
    ("csv", "1 of a", "1, of a", ":3", r"4 cells, not 3 \(image,caption,split\)"),
    ("csv", "a.jpg,Cap", 'a.jpg,"Cap', ":2", "malformed CSV"),
    ("csv", "Caption 0 of b.jpg .", '"A\nb"', ":4", "quotation mark"),
    ("jsonl", '"split": "dev"', '"split": "x"', ":3", "'x'.*train, dev, test"),
    ("jsonl", '"split": "dev", ', "", "", r"'c\.jpg' no split"),
    ("karpathy", '"split": "val"', '"split": "x"', r": images\[2\]", "'x'.*train, restval, val, test"),
    ("csv", "Caption 1 of a.jpg .,train", "A.,dev", ":3", r"'a\.jpg' .* dev here and in train"),
    ("jsonl", '"image": "b.jpg"', '"image": "a.jpg"', ":2", r"'a\.jpg' is listed twice"),
    ("karpathy", '"filename": "b.jpg"', '"filename": "a.jpg"', r": images\[1\]", r"'a\.jpg' is listed twice"),
    ("kaggle", "a.jpg", "../a.jpg", ":2", r"'\.\./a\.jpg'"),
    ("flickr8k", "Caption 1 of a.jpg .", " ", r":2 \(a\.jpg\)", "empty"),
    ("karpathy", '"raw"', '"text"', r": images\[0\] \(a\.jpg\)", "None, expected text"),
]
# A key of the second row of captions.jsonl, a value that is not allowed, and what is named.
ROWS = [
    ("captions", [], "no caption"),
    ("captions", "A cat.", "'A cat.', expected a list of text"),
    ("captions", [3], "3, expected text"),
    ("captions", ["A cat.", " \t\n"], "empty"),
    ("captions", ["x" * 2001], "2001 characters; at most 2000"),
    *(("captions", [f"A {bad}cat"], f"control character {bad!r}") for bad in ("\0", "\ud800")),
    *(
        ("image", name, f"the image {name!r} is not a path inside")
        for name in ("a/../../x.jpg", "/x.jpg", "a\\x.jpg", "./a.jpg", "s//x.jpg", "")
    ),
    ("image", 7, "the image 7"),
    *(("turns", turns, "expected [{") for turns in ("no list", [7])),
    ("turns", [{"question": "Why?"}], "an answer is None, expected text"),
    ("turns", [{"question": " ", "answer": "x"}], "a question is empty"),
    ("turns", [{"question": "Why?", "answer": "x", "kind": 3}], "a kind of question is 3"),
    ("turns", [{"question": "w" * 2001, "answer": "x"}], "2001 characters; at most 2000"),
    ("turns", [{"question": "W\0?", "answer": "x"}], "control character"),
]


def jsonl_with(root: Path, key: str, value: object) -> Path:
    """A jsonl dataset with another value in its second line."""
    make_jsonl(root)
    lines = (root / "captions.jsonl").read_text().split("\n")
    lines[1] = json.dumps({**json.loads(lines[1]), key: value})
    (root / "captions.jsonl").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize(("layout", "old", "new", "place", "value"), MALFORMED)
def test_a_malformed_file_is_named_with_the_place(
    tmp_path: Path, layout: str, old: str, new: str, place: str, value: str
) -> None:
    edit(LAYOUTS[layout](tmp_path) / FILES[layout], old, new)
    refusal(read, layout, tmp_path, match=f"{FILES[layout]}{place}.*{value}")


@pytest.mark.parametrize(("key", "value", "named"), ROWS)
def test_unusable_names_and_captions_are_refused(tmp_path: Path, key: str, value: object, named: str) -> None:
    (tmp_path / "x.jpg").touch()
    message = refusal(read, "jsonl", jsonl_with(tmp_path / "root", key, value))
    assert "captions.jsonl:2" in message
    assert named in message


@pytest.mark.parametrize("source", MAKERS)
def test_a_root_that_is_not_a_folder_says_what_belongs_there(tmp_path: Path, source: str) -> None:
    root = tmp_path / "root"
    message = refusal(read, source, root)
    assert f"data.root is {root}, which does not exist" in message
    assert FILES[source] in message
    root.touch()
    assert f"data.root is {root}, which is not a folder" in refusal(read, source, root)


@pytest.mark.parametrize(
    ("source", "missing", "named"),
    [
        ("flickr8k", "Flicker8k_Dataset", "a folder Flicker8k_Dataset or Images"),
        ("flickr8k", "Flickr8k.token.txt", "Flickr8k.token.txt, captions.txt or dataset_flickr8k.json"),
        ("flickr8k", "Flickr_8k.devImages.txt", "Flickr_8k.devImages.txt does not exist"),
        ("karpathy", "dataset.json", "dataset.json or exactly one dataset_*.json"),
        ("jsonl", "captions.jsonl", "captions.jsonl does not exist"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, source: str, missing: str, named: str) -> None:
    path = LAYOUTS[source](tmp_path) / missing
    path.rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert named in refusal(read, source, tmp_path)


def test_several_karpathy_files_are_refused(tmp_path: Path) -> None:
    for name in ("dataset_coco.json", "dataset_flickr8k.json"):
        make_karpathy(tmp_path, name=name)
    assert "holds dataset_coco.json, dataset_flickr8k.json" in refusal(read, "karpathy", tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"", "is empty"), (b"image,caf\xe9", ":1 is not UTF-8 .byte 0xe9"), (None, ": Is a dir")],
)
def test_a_file_that_holds_no_text_is_refused(tmp_path: Path, content: bytes | None, named: str) -> None:
    path = tmp_path / "captions.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    refusal(read, "csv", tmp_path, match=rf"captions\.csv ?{named}")


@pytest.mark.parametrize("split", FLICKR_SPLITS)
def test_a_split_without_images_or_captions_is_refused(tmp_path: Path, split: str) -> None:
    (MAKERS["flickr8k"](tmp_path) / FLICKR_SPLITS[split]).write_text("\n")
    assert f"{split} 0" in refusal(read, "flickr8k", tmp_path)
    (tmp_path / FLICKR_SPLITS[split]).write_text("x.jpg\n")
    assert refusal(read, "flickr8k", tmp_path).startswith("x.jpg: ")


def test_absent_images_are_counted_and_three_named(tmp_path: Path) -> None:
    for image in MAKERS["csv"](tmp_path).rglob("*.jpg"):
        image.unlink()
    assert refusal(read, "csv", tmp_path).startswith("a.jpg, b.jpg, c.jpg and 1 more: 4 of 4 images of ")


@pytest.mark.parametrize(
    ("name", "target"),
    [("b.jpg", "gone.jpg"), ("b.jpg", "b.jpg"), ("b.jpg", "."), (f"b{'x' * 300}.jpg", "a.jpg")],
    ids=["dangling link", "loop", "folder", "long name"],
)
def test_a_name_without_a_file_is_refused(tmp_path: Path, name: str, target: str) -> None:
    edit(make_jsonl(tmp_path) / "captions.jsonl", "b.jpg", name)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "b.jpg").symlink_to(target)
    assert ".jpg: 1 of 4 images of " in refusal(read, "jsonl", tmp_path)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    root = make_jsonl(tmp_path / "root")
    (root / "b.jpg").rename(tmp_path / "b.jpg")
    (root / "sub").symlink_to(tmp_path)
    edit(root / "captions.jsonl", "b.jpg", "sub/b.jpg")
    assert refusal(read, "jsonl", root).startswith("sub/b.jpg: 1 of 4 images are links")
