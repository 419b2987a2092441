"""Splits and file names of datasets: unknown, doubled, or out of the folder, each is refused in a sentence.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_dataset_names.py
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
    jsonl_rows,
    karpathy_images,
    make_csv,
    make_flickr8k,
    make_images,
    make_jsonl,
    make_kaggle,
    make_karpathy,
    read,
)


@pytest.mark.parametrize(
    ("source", "file", "old", "message"),
    [
        (
            "jsonl",
            "captions.jsonl",
            '"split": "dev"',
            r"jsonl:3: the split is 'x'; allowed: train, d",
        ),
        ("csv", "captions.csv", ",dev", r"csv:6: the split is 'x'; allowed: train, dev, test"),
        (
            "karpathy",
            "dataset.json",
            '"split": "val"',
            r"images\[2\] \(c\.jpg\): the split is 'x'; ",
        ),
    ],
)
def test_unknown_split(tmp_path: Path, source: Source, file: str, old: str, message: str) -> None:
    new = old.replace("dev", "x").replace("val", "x")
    edit(MAKERS[source](tmp_path) / file, old, new)
    with pytest.raises(PipelineError, match=message):
        read(source, tmp_path)


def test_split_given_to_some_images_only(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"captions\.jsonl gives some .* but not 'b\.jpg'"):
        read("jsonl", bad_row(tmp_path, split=None))


def test_same_image_in_two_splits(tmp_path: Path) -> None:
    make_flickr8k(tmp_path / "flickr8k")
    (tmp_path / "flickr8k" / FLICKR_SPLITS["dev"]).write_text("c.jpg\na.jpg\n")
    message = r"'a\.jpg' is in the split dev here and in train above"
    with pytest.raises(PipelineError, match=rf"devImages\.txt:2: the image {message}"):
        read("flickr8k", tmp_path / "flickr8k")
    with pytest.raises(PipelineError, match=rf"csv:10: the image {message}"):
        read("csv", make_csv(tmp_path / "csv", extra="a.jpg,Again.,dev\n"))
    images = karpathy_images()
    images.append({**images[0], "split": "val"})
    with pytest.raises(PipelineError, match=rf"images\[4\] \(a\.jpg\): the image {message}"):
        read("karpathy", make_karpathy(tmp_path / "karpathy", images))
    rows = jsonl_rows()
    rows.append({**rows[0], "split": "dev"})
    with pytest.raises(PipelineError, match=rf"jsonl:5: the image {message}"):
        read("jsonl", make_jsonl(tmp_path / "jsonl", rows))


def test_duplicate_image(tmp_path: Path) -> None:
    make_flickr8k(tmp_path / "flickr8k")
    (tmp_path / "flickr8k" / FLICKR_SPLITS["dev"]).write_text("c.jpg\nc.jpg\n")
    with pytest.raises(PipelineError, match=r"devImages\.txt:2: .*'c\.jpg' is listed a second time"):
        read("flickr8k", tmp_path / "flickr8k")
    images = [*karpathy_images(), karpathy_images()[0]]
    with pytest.raises(PipelineError, match=r"images\[4\].*'a\.jpg' is listed a second time"):
        read("karpathy", make_karpathy(tmp_path / "karpathy", images))
    rows = [*jsonl_rows(), jsonl_rows()[0]]
    with pytest.raises(PipelineError, match=r"jsonl:5: .*'a\.jpg' is listed a second time"):
        read("jsonl", make_jsonl(tmp_path / "jsonl", rows))


@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg",
        "a/../../x.jpg",
        "/x.jpg",
        "a\\x.jpg",
        "./a.jpg",
        "s//x.jpg",
        "s/",
        ".",
        "",
        "a\0b",
        7,
    ],
)
def test_names_that_are_no_plain_path_in_the_folder(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.jpg").touch()
    with pytest.raises(PipelineError, match=r"captions\.jsonl:2: the image .*(allowed|expected)"):
        read("jsonl", bad_row(tmp_path / "root", image=name))


@pytest.mark.parametrize(
    ("source", "file", "message"),
    [
        ("flickr8k", "Flickr_8k.trainImages.txt", r"trainImages\.txt:1: the image '\.\./a\.jpg'"),
        ("csv", "captions.csv", r"csv:2: the image '\.\./a\.jpg'"),
        ("karpathy", "dataset.json", r"images\[0\]: the image '\.\./a\.jpg' is no plain path"),
    ],
)
def test_names_that_leave_the_folder_in_other_formats(
    tmp_path: Path, source: Source, file: str, message: str
) -> None:
    edit(MAKERS[source](tmp_path) / file, "a.jpg", "../a.jpg")
    with pytest.raises(PipelineError, match=message):
        read(source, tmp_path)


def test_kaggle_name_that_leaves_the_folder(tmp_path: Path) -> None:
    edit(make_kaggle(tmp_path) / "captions.txt", "a.jpg", "../a.jpg")
    with pytest.raises(PipelineError, match=r"captions\.txt:2: the image '\.\./a\.jpg' is no plain"):
        read("flickr8k", tmp_path)


def test_link_that_leaves_the_folder(tmp_path: Path) -> None:
    make_flickr8k(tmp_path / "root")
    make_images(tmp_path, ["secret.jpg"])
    link = tmp_path / "root" / "Flicker8k_Dataset" / "b.jpg"
    link.unlink()
    link.symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(PipelineError, match=r"^b\.jpg: 1 of 4 images are links that lead out of"):
        read("flickr8k", tmp_path / "root")


@pytest.mark.parametrize("kind", ["dangling", "loop", "folder", "long name"])
def test_names_behind_which_there_is_no_file(tmp_path: Path, kind: str) -> None:
    make_jsonl(tmp_path)
    (tmp_path / "b.jpg").unlink()
    if kind == "folder":
        (tmp_path / "b.jpg").mkdir()
    elif kind == "long name":
        edit(tmp_path / "captions.jsonl", '"b.jpg"', f'"b{"x" * 300}.jpg"')
    else:
        (tmp_path / "b.jpg").symlink_to("gone.jpg" if kind == "dangling" else "b.jpg")
    with pytest.raises(PipelineError, match=r"^b.*\.jpg: 1 of 4 images of .* are not in "):
        read("jsonl", tmp_path)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("source", ["jsonl", "flickr8k"])
def test_split_without_images(tmp_path: Path, source: Source, split: str) -> None:
    if source == "flickr8k":
        (make_flickr8k(tmp_path) / FLICKR_SPLITS[split]).write_text("\n")
    else:
        make_jsonl(tmp_path, [row for row in jsonl_rows() if row["split"] != split])
    with pytest.raises(PipelineError, match=rf"has no image in the split {split} \(.*{split} 0"):
        read(source, tmp_path)
