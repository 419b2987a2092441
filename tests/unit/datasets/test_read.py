"""Each dataset format, in each of its layouts, becomes the same table; the log says what is left out.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_read.py
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipeline.params.schema import Limits
from tests.dataset_makers import (
    CAPTIONS,
    MAKERS,
    NAMES,
    edit,
    karpathy_images,
    make_flickr8k,
    make_images,
    make_jsonl,
    make_kaggle,
    make_splits,
    read,
    splits_of,
)
from tests.refusals import refusal
from tests.shared_data import shared_folder


@pytest.mark.parametrize("source", MAKERS)
def test_each_format_gives_the_same_table(tmp_path: Path, source: str, log: pytest.LogCaptureFixture) -> None:
    entries = read(source, MAKERS[source](tmp_path))
    assert splits_of(entries) == NAMES
    assert {record.image_id: list(record.captions) for record, _ in entries} == CAPTIONS
    assert all(path.is_file() and path.is_relative_to(tmp_path) for _, path in entries)
    assert "are not used" not in log.text

    folder = entries[0][1].parent
    make_images(folder, ["lost/x.JPG", "y.jpg"])
    (folder / "notes.md").touch()
    assert read(source, tmp_path) == entries
    assert f"lost/x.JPG, y.jpg: 2 images in {folder} are not used" in log.text


def test_images_beyond_the_limits_may_be_absent(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    make_jsonl(tmp_path)
    (tmp_path / "b.jpg").unlink()
    entries = read("jsonl", tmp_path, Limits(train=1, dev=None, test=5))
    assert list(splits_of(entries)) == ["a.jpg", "c.jpg", "d.jpg"]
    assert "data.limits keeps 3 of 4 images" in log.text


# --- Flickr8k's layouts -----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Images"])
def test_flickr8k_in_the_folders_of_its_archives(tmp_path: Path, folder: str) -> None:
    make_flickr8k(tmp_path)
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    shutil.move(tmp_path / "Flicker8k_Dataset", tmp_path / folder)
    (tmp_path / "Flickr8k_text").mkdir()
    for file in tmp_path.glob("*.txt"):
        file.rename(tmp_path / "Flickr8k_text" / file.name)
    entries = read("flickr8k", tmp_path)
    assert splits_of(entries) == NAMES
    assert entries[0][1] == tmp_path / folder / "a.jpg"


def test_kaggle_without_splits_is_split_by_hash(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    names = [f"{n}.jpg" for n in range(100)]
    make_images(tmp_path / "Images", names)
    rows = "".join(f'{name},"A dog , a cat and a ""bird"" ."\n' for name in names)
    (tmp_path / "captions.txt").write_text(f"image,caption\n{rows}")
    entries = read("kaggle", tmp_path)
    assert Counter(splits_of(entries).values()) == {"train": 80, "dev": 10, "test": 10}
    assert list(splits_of(entries)) == sorted(names)
    assert entries[0][0].captions == ('A dog , a cat and a "bird" .',)
    assert "captions.txt has no splits: made from hashes of the names (80/10/10)" in log.text
    assert entries == read("kaggle", tmp_path)


def test_flickr8k_is_read_with_the_splits_that_exist(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """Kaggle's captions have no splits, Karpathy's do; with their lists, the official texts come first."""
    make_kaggle(tmp_path)
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps({"images": karpathy_images()}))
    (tmp_path / "dataset_coco.json").write_text("another dataset's")
    assert splits_of(read("flickr8k", tmp_path)) == NAMES
    assert "Flickr8k in Karpathy's layout" in log.text
    assert "4 images (train 2, dev 1, test 1) with 8 captions" in log.text
    (tmp_path / "dataset_flickr8k.json").unlink()
    make_splits(tmp_path)
    assert splits_of(read("kaggle", tmp_path)) == NAMES
    assert "in Kaggle's layout" in log.text
    assert splits_of(read("flickr8k", make_flickr8k(tmp_path))) == NAMES
    assert "in its official layout" in log.text
    assert "hashes" not in log.text


def test_a_folder_without_flickr8k_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "Flickr8k").mkdir()
    refusal(read, "flickr8k", tmp_path, match="holds Flickr8k/")


def test_captions_of_images_in_no_split_are_counted(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """The first is an entry of the real file; it names no image."""
    lost = "2258277193_586949ec62.jpg.1#0\tpeople waiting in a line\nunused.jpg#0\t\n"
    edit(make_flickr8k(tmp_path) / "Flickr8k.token.txt", "a.jpg#0", f"{lost}a.jpg#0")
    assert splits_of(read("flickr8k", tmp_path)) == NAMES
    assert "2 images have captions but are in no split" in log.text


# --- other formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["", "images"])
def test_karpathy_with_coco_folders(tmp_path: Path, parent: str) -> None:
    """Karpathy's own split restval is trained on."""
    images = [{**image, "filepath": "val2014"} for image in karpathy_images()]
    images[0]["split"] = "restval"
    make_images(tmp_path / parent / "val2014")
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    record, path = read("karpathy", tmp_path)[0]
    assert (record.image_id, record.split) == ("val2014/a.jpg", "train")
    assert path == tmp_path / parent / "val2014" / "a.jpg"


def test_a_csv_file_may_have_its_columns_in_any_order_and_no_splits(tmp_path: Path) -> None:
    names = [f"sub/{n}.png" for n in range(30)]
    make_images(tmp_path, names)
    lines = "".join(f"A cat.,{name}\r\n" for name in names)
    (tmp_path / "captions.csv").write_text(f"caption,image\r\n\r\n{lines}")
    assert Counter(splits_of(read("csv", tmp_path)).values()) == {"train": 24, "dev": 3, "test": 3}


def test_white_space_collapses(tmp_path: Path) -> None:
    text = "  Two\\tdogs\\u00a0\\r\\n run. "
    edit(make_jsonl(tmp_path) / "captions.jsonl", "Caption 0 of a.jpg .", text)
    assert read("jsonl", tmp_path)[0][0].captions[0] == "Two dogs run."


def test_keys_that_are_not_read_are_named(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """`spilt` for `split` would be a dataset split by hashes."""
    edit(make_jsonl(tmp_path) / "captions.jsonl", '"split": "dev"', '"split": "dev", "spilt": "dev"')
    read("jsonl", tmp_path)
    assert "only image, captions, turns and split are read, not ['spilt']" in log.text


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    make_flickr8k(tmp_path)
    for file in tmp_path.glob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    entries = read("flickr8k", tmp_path)
    assert splits_of(entries) == NAMES
    assert list(entries[0][0].captions) == CAPTIONS["a.jpg"]


def test_a_link_within_the_folder_and_a_linked_folder(tmp_path: Path) -> None:
    (make_jsonl(tmp_path / "real") / "a.jpg").unlink()
    (tmp_path / "real" / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert len(read("jsonl", tmp_path / "root")) == 4


@pytest.mark.parametrize(
    ("layout", "name", "sizes"),
    [("flickr8k", "photos", (802, 80, 150)), ("karpathy", "ucm-captions", (1680, 210, 210))],
)
def test_a_real_dataset(layout: str, name: str, sizes: tuple[int, ...]) -> None:
    entries = read(layout, shared_folder(name))
    assert Counter(splits_of(entries).values()) == dict(zip(("train", "dev", "test"), sizes, strict=True))
    assert {len(record.captions) for record, _ in entries} == {5}
