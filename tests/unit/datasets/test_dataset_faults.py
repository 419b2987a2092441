"""Datasets with missing, malformed or contradictory files: each fault a sentence naming file, line or image.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_dataset_faults.py
"""

import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from tests.dataset_makers import (
    FLICKR_SPLITS,
    MAKERS,
    edit,
    karpathy_images,
    make_csv,
    make_flickr8k,
    make_images,
    make_jsonl,
    make_kaggle,
    make_karpathy,
    read,
)

LAYOUTS = {**MAKERS, "kaggle": make_kaggle}
# The file with captions of each layout.
FILES = {
    "flickr8k": "Flickr8k.token.txt",
    "karpathy": "dataset.json",
    "jsonl": "captions.jsonl",
    "csv": "captions.csv",
    "kaggle": "captions.txt",
}
# A layout, a text of its file with captions, what takes its place, and how the error begins behind the path.
MALFORMED = [
    ("flickr8k", "a.jpg#1\t", "a.jpg 1 ", r":2 is 'a\.jpg 1 "),
    ("flickr8k", "a.jpg#1", "a.jpg#0", r":2 repeats caption 0 of 'a\.jpg'"),
    ("jsonl", '{"image": "b', '{image": "b', ":2 is not valid JSON: Exp"),
    ("jsonl", '{"image": "a', '[1]\n{"image": "a', r":1 holds \[1\], exp"),
    ("jsonl", '"image": "a', '"file": "a', ":1: the image None is no plain path"),
    ("jsonl", '{"image": "a', "[" * 99999, ":1 is not valid JSON: nest"),
    ("jsonl", '"a.jpg"', "1" * 5000, ":1 is not usable JSON: "),
    ("karpathy", '"images"', '\n"images', ":2 is not valid JSON"),
    ("karpathy", '"images"', '"pictures"', " lists no images"),
    ("karpathy", "[{", "[7, {", r": images\[0\] is 7, expected"),
    ("csv", "image,", "file,", ":1: the header is 'file,caption,split'; all"),
    ("csv", "1 of a", "1, of a", r":3 has 4 cells, not 3 \(image,caption,s"),
    ("csv", "a.jpg,Cap", 'a.jpg,"Cap', ":2 is malformed CSV: unexpected end"),
    ("csv", "Caption 0 of b.jpg .", '"A\nb"', ":4 goes on in the next line"),
    ("csv", "Caption 0 of b.jpg .", '"A"b', ":4 is malformed CSV: ',' exp"),
    # Splits.
    ("jsonl", '"split": "dev"', '"split": "x"', ":3: the split is 'x'; allowed: train, dev, test"),
    ("jsonl", '"split": "dev", ', "", r" gives some images a split but not 'c\.jpg'"),
    ("csv", ",dev", ",x", ":6: the split is 'x'; allowed: train, dev, test"),
    ("karpathy", '"split": "val"', '"split": "x"', r": images\[2\]: the split is 'x'; "),
    # Names that lead out of the folder.
    ("kaggle", "a.jpg", "../a.jpg", r":2: the image '\.\./a\.jpg' is no plain path"),
    ("csv", "a.jpg", "../a.jpg", r":2: the image '\.\./a\.jpg' is no plain path"),
    ("karpathy", "a.jpg", "../a.jpg", r": images\[0\]: the image '\.\./a\.jpg' is no plain path"),
    # Captions.
    ("flickr8k", "Caption 1 of a.jpg .", " ", r":2 \(a\.jpg\): a caption is empty"),
    ("csv", "Caption 1 of a.jpg .", " ", r":3 \(a\.jpg\): a caption is empty"),
    ("karpathy", "Caption 1 of a.jpg .", " ", r": images\[0\] \(a\.jpg\): a caption is empty"),
    ("karpathy", '"raw"', '"text"', r": images\[0\] \(a\.jpg\): a caption is None, expected text"),
]


def refused(layout: str, root: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read(layout, root)
    return str(caught.value)


def jsonl_with(root: Path, **changes: object) -> Path:
    """A jsonl dataset with another value in its second line."""
    make_jsonl(root)
    lines = (root / "captions.jsonl").read_text().split("\n")
    lines[1] = json.dumps({**json.loads(lines[1]), **changes})
    (root / "captions.jsonl").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize(("layout", "old", "new", "message"), MALFORMED)
def test_a_malformed_file_is_named_with_the_line(
    tmp_path: Path, layout: str, old: str, new: str, message: str
) -> None:
    edit(LAYOUTS[layout](tmp_path) / FILES[layout], old, new)
    with pytest.raises(PipelineError, match=f"{FILES[layout]}{message}"):
        read(layout, tmp_path)


@pytest.mark.parametrize("source", MAKERS)
def test_a_missing_root_says_what_belongs_there(tmp_path: Path, source: str) -> None:
    said = refused(source, tmp_path / "gone")
    assert said.startswith(f"data.root is {tmp_path / 'gone'}, which does not exist")
    assert FILES[source] in said


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    assert f"data.root is {tmp_path / 'root'}, which is no folder" in refused("csv", tmp_path / "root")


@pytest.mark.parametrize(
    ("source", "missing", "message"),
    [
        ("flickr8k", "Flicker8k_Dataset", "no folder Flicker8k_Dataset, Flickr8k_Dataset or Images"),
        ("flickr8k", "Flickr8k.token.txt", "has neither Flickr8k.token.txt nor captions.txt"),
        ("flickr8k", "Flickr_8k.devImages.txt", "Flickr_8k.devImages.txt does not exist; put "),
        ("karpathy", "dataset.json", "needs dataset.json or exactly one dataset_*.json, found none"),
        ("jsonl", "captions.jsonl", "captions.jsonl does not exist"),
        ("csv", "captions.csv", "captions.csv does not exist"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, source: str, missing: str, message: str) -> None:
    MAKERS[source](tmp_path)
    (tmp_path / missing).rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    assert message in refused(source, tmp_path)


def test_kaggle_with_some_of_the_split_lists_is_refused(tmp_path: Path) -> None:
    make_kaggle(tmp_path)
    (tmp_path / FLICKR_SPLITS["train"]).write_text("a.jpg\n")
    assert "Flickr_8k.devImages.txt does not exist" in refused("kaggle", tmp_path)


def test_several_karpathy_files_are_refused(tmp_path: Path) -> None:
    for name in ("dataset_coco.json", "dataset_flickr8k.json"):
        make_karpathy(tmp_path, name=name)
    assert "found dataset_coco.json, dataset_flickr8k.json." in refused("karpathy", tmp_path)


def test_an_empty_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").touch()
    assert "captions.csv is empty; expected the header" in refused("csv", tmp_path)


@pytest.mark.parametrize(
    ("source", "file"), [*((s, FILES[s]) for s in MAKERS), ("flickr8k", FLICKR_SPLITS["dev"])]
)
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, source: str, file: str) -> None:
    path = MAKERS[source](tmp_path) / file
    line = path.read_bytes().count(b"\n") + 1
    path.write_bytes(path.read_bytes() + b"caf\xe9")
    assert f"{file}:{line} is not UTF-8 (byte 0xe9)" in refused(source, tmp_path)


def test_a_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").mkdir()
    assert "Is a directory" in refused("csv", tmp_path)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "the image has no caption"),
        (None, "captions are None, expected a list of text"),
        ("A cat.", "captions are 'A cat.', expected a list of text"),
        ([3], "a caption is 3, expected text"),
        (["A cat.", " \t\n"], "a caption is empty"),
        (["x" * 2001], "has 2001 characters; allowed: at most 2000"),
        (["A\0cat"], r"holds the control character '\x00'"),
        (["A \x1bcat"], r"holds the control character '\x1b'"),
        (["A \ud800 cat"], r"holds the control character '\ud800'"),
    ],
)
def test_captions_that_cannot_be_trained_on_are_refused(
    tmp_path: Path, captions: object, message: str
) -> None:
    said = refused("jsonl", jsonl_with(tmp_path, captions=captions))
    assert "captions.jsonl:2 (b.jpg): " in said
    assert message in said


def test_a_caption_of_exactly_the_allowed_length_is_taken(tmp_path: Path) -> None:
    entries = read("jsonl", jsonl_with(tmp_path, captions=["x" * 2000]))
    assert len(entries[1][0].captions[0]) == 2000


@pytest.mark.parametrize(
    "name",
    ["../x.jpg", "a/../../x.jpg", "/x.jpg", "a\\x.jpg", "./a.jpg", "s//x.jpg", "s/", ".", "", "a\0b", 7],
)
def test_names_that_are_no_plain_path_in_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.jpg").touch()
    said = refused("jsonl", jsonl_with(tmp_path / "root", image=name))
    assert f"captions.jsonl:2: the image {name!r}" in said


@pytest.mark.parametrize(
    ("split", "message"),
    [("dev", "is in the split dev here and in train above"), ("train", "is listed a second time")],
)
def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path, split: str, message: str) -> None:
    first = karpathy_images()[0]
    cases = {
        "karpathy": make_karpathy(
            tmp_path / "karpathy", [*karpathy_images(), {**first, "split": split.replace("dev", "val")}]
        ),
        "jsonl": make_jsonl(tmp_path / "jsonl"),
        "flickr8k": make_flickr8k(tmp_path / "flickr8k"),
    }
    with (tmp_path / "jsonl" / "captions.jsonl").open("a") as file:
        file.write(f"\n{json.dumps({'image': 'a.jpg', 'split': split, 'captions': ['Again.']})}")
    with (tmp_path / "flickr8k" / FLICKR_SPLITS[split]).open("a") as file:
        file.write("a.jpg\n")
    list_line = {"dev": 2, "train": 3}[split]
    places = {"karpathy": "images[4]", "jsonl": "jsonl:5", "flickr8k": f"{split}Images.txt:{list_line}"}
    for layout, root in cases.items():
        assert f"{places[layout]}: the image 'a.jpg' {message}" in refused(layout, root)


def test_rows_of_an_image_in_two_splits_are_refused(tmp_path: Path) -> None:
    edit(make_csv(tmp_path) / "captions.csv", "Caption 1 of a.jpg .,train", "Caption 1 of a.jpg .,dev")
    assert "csv:3: the image 'a.jpg' is in the split dev here and in train above" in refused("csv", tmp_path)


def test_an_image_of_a_split_without_caption_is_named(tmp_path: Path) -> None:
    make_flickr8k(tmp_path)
    (tmp_path / FLICKR_SPLITS["dev"]).write_text("c.jpg\nx.jpg\n")
    assert refused("flickr8k", tmp_path).startswith("x.jpg: no caption in ")


@pytest.mark.parametrize("split", FLICKR_SPLITS)
def test_a_split_without_images_is_refused(tmp_path: Path, split: str) -> None:
    (make_flickr8k(tmp_path) / FLICKR_SPLITS[split]).write_text("\n")
    said = refused("flickr8k", tmp_path)
    assert f"has no image in the split {split} (" in said
    assert f"{split} 0" in said


# --- files of images --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", MAKERS)
def test_absent_images_are_counted_and_three_named(tmp_path: Path, source: str) -> None:
    for image in MAKERS[source](tmp_path).rglob("*.jpg"):
        image.unlink()
    assert refused(source, tmp_path).startswith("a.jpg, b.jpg, c.jpg and 1 more: 4 of 4 images of ")


@pytest.mark.parametrize("kind", ["dangling", "loop", "folder", "long name"])
def test_a_name_behind_which_there_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    make_jsonl(tmp_path)
    (tmp_path / "b.jpg").unlink()
    if kind == "folder":
        (tmp_path / "b.jpg").mkdir()
    elif kind == "long name":
        edit(tmp_path / "captions.jsonl", '"b.jpg"', f'"b{"x" * 300}.jpg"')
    else:
        (tmp_path / "b.jpg").symlink_to("gone.jpg" if kind == "dangling" else "b.jpg")
    assert ".jpg: 1 of 4 images of " in refused("jsonl", tmp_path)


@pytest.mark.parametrize(("image", "link"), [("b.jpg", "b.jpg"), ("sub/b.jpg", "sub")])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, image: str, link: str) -> None:
    outside, root = tmp_path / "outside", make_jsonl(tmp_path / "root")
    make_images(outside, ["b.jpg"])
    edit(root / "captions.jsonl", "b.jpg", image)
    (root / "b.jpg").unlink()
    (root / link).symlink_to(outside if link == "sub" else outside / "b.jpg")
    assert refused("jsonl", root).startswith(f"{image}: 1 of 4 images are links that lead out of ")
