"""Each dataset format, in each of its layouts, becomes the same items.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_read.py
"""

import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.datasets.read import read_dataset
from pipeline.errors import PipelineError
from pipeline.params.schema import Limits
from tests.dataset_makers import (
    MAKERS,
    NAMES,
    Source,
    jsonl_rows,
    karpathy_images,
    make_flickr8k,
    make_images,
    make_jsonl,
    make_kaggle,
    make_karpathy,
    make_splits,
    params_of,
    read,
)
from tests.shared_data import photos, ucm_captions


@pytest.mark.parametrize("source", MAKERS)
def test_every_format_gives_the_same_items(tmp_path: Path, source: Source) -> None:
    items = read(source, MAKERS[source](tmp_path))
    assert [(i.image_id, i.split) for i in items] == list(NAMES.items())
    assert items[0].captions == ("Caption 0 of a.jpg .", "Caption 1 of a.jpg .")
    assert all(i.path.is_file() and i.path.is_relative_to(tmp_path) for i in items)


@pytest.mark.parametrize("source", MAKERS)
def test_limits_keep_the_first_of_each_split(tmp_path: Path, source: Source) -> None:
    params = params_of(source, MAKERS[source](tmp_path), Limits(train=1, dev=None, test=5))
    assert [i.image_id for i in read_dataset(params)] == ["a.jpg", "c.jpg", "d.jpg"]


def test_images_beyond_the_limits_need_not_be_there(tmp_path: Path) -> None:
    params = params_of("jsonl", make_jsonl(tmp_path), Limits(train=1, dev=None, test=None))
    (tmp_path / "b.jpg").unlink()
    assert len(read_dataset(params)) == 3


@pytest.mark.parametrize("folder", ["Flickr8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Images"])
def test_flickr8k_image_folders(tmp_path: Path, folder: str) -> None:
    make_flickr8k(tmp_path)
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    shutil.move(tmp_path / "Flicker8k_Dataset", tmp_path / folder)
    assert read("flickr8k", tmp_path)[0].path == tmp_path / folder / "a.jpg"


def test_flickr8k_texts_in_the_folder_of_their_archive(tmp_path: Path) -> None:
    make_flickr8k(tmp_path)
    (tmp_path / "Flickr8k_text").mkdir()
    for file in tmp_path.glob("*.txt"):
        file.rename(tmp_path / "Flickr8k_text" / file.name)
    assert len(read("flickr8k", tmp_path)) == 4


def test_flickr8k_counts_images_in_no_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_flickr8k(tmp_path)
    with (tmp_path / "Flickr8k.token.txt").open("a") as file:
        # The first is an entry of the real file; it names no image.
        file.write("2258277193_586949ec62.jpg.1#0\tpeople waiting in a line\nunused.jpg#0\t\n")
    with caplog.at_level(logging.INFO, "pipeline"):
        assert [i.image_id for i in read("flickr8k", tmp_path)] == list(NAMES)
    assert "2 images have captions but are in no split" in caplog.text


def test_kaggle_without_splits_is_split_by_hash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{n}.jpg" for n in range(100)]
    make_images(tmp_path / "Images", names)
    rows = "".join(f'{name},"A dog , a cat and a ""bird"" ."\n' for name in names)
    (tmp_path / "captions.txt").write_text(f"image,caption\n{rows}")
    with caplog.at_level(logging.INFO, "pipeline"):
        items = read("flickr8k", tmp_path)
    assert Counter(i.split for i in items) == {"train": 80, "dev": 10, "test": 10}
    assert [i.image_id for i in items] == sorted(names)
    assert items[0].captions == ('A dog , a cat and a "bird" .',)
    assert "hashes of the names (80/10/10)" in caplog.text
    assert items == read("flickr8k", tmp_path)


def test_kaggle_with_the_published_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_kaggle(tmp_path)
    make_splits(tmp_path)
    with caplog.at_level(logging.INFO, "pipeline"):
        assert {i.image_id: i.split for i in read("flickr8k", tmp_path)} == NAMES
    assert "splits as published" in caplog.text


@pytest.mark.parametrize("folder", ["Flicker8k_Dataset", "Images", "images"])
@pytest.mark.parametrize("name", ["dataset.json", "dataset_flickr8k.json"])
def test_flickr8k_in_karpathys_layout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str, name: str
) -> None:
    make_karpathy(tmp_path, name=name)
    (tmp_path / "images").rename(tmp_path / folder)
    with caplog.at_level(logging.INFO, "pipeline"):
        items = read("flickr8k", tmp_path)
    assert {i.image_id: i.split for i in items} == NAMES
    assert items[0].path == tmp_path / folder / "a.jpg"
    assert "Flickr8k in Karpathy's layout, splits as published" in caplog.text
    assert "4 images (train 2, dev 1, test 1) with 8 captions" in caplog.text


def test_flickr8k_takes_the_splits_that_there_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Kaggle's captions have none, Karpathy's do; with their lists, the official texts come first."""
    make_kaggle(tmp_path)
    karpathy = tmp_path / "dataset_flickr8k.json"
    karpathy.write_text(json.dumps({"images": karpathy_images()}))
    (tmp_path / "dataset_coco.json").write_text("another dataset's")
    with caplog.at_level(logging.INFO, "pipeline"):
        assert {i.image_id: i.split for i in read("flickr8k", tmp_path)} == NAMES
        assert "in Karpathy's layout" in caplog.text
        make_flickr8k(tmp_path)
        caplog.clear()
        assert {i.image_id: i.split for i in read("flickr8k", tmp_path)} == NAMES
    assert "in its official layout" in caplog.text


def test_flickr8k_that_is_not_there_says_what_is(tmp_path: Path) -> None:
    (tmp_path / "Flickr8k").mkdir()
    (tmp_path / "Flickr8k_Dataset.zip").touch()
    with pytest.raises(PipelineError, match=r"It holds Flickr8k/, Flickr8k_Dataset\.zip\."):
        read("flickr8k", tmp_path)
    for number in range(20):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(PipelineError, match=r"It holds 0\.jpg, .* and 14 more\."):
        read("flickr8k", tmp_path)


def test_karpathy_restval_is_train(tmp_path: Path) -> None:
    images = karpathy_images()
    images[0]["split"] = "restval"
    assert read("karpathy", make_karpathy(tmp_path, images))[0].split == "train"


@pytest.mark.parametrize("parent", ["", "images"])
def test_karpathy_with_coco_folders(tmp_path: Path, parent: str) -> None:
    images = [{**image, "filepath": "val2014"} for image in karpathy_images()]
    make_images(tmp_path / parent / "val2014")
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    items = read("karpathy", tmp_path)
    assert items[0].image_id == "val2014/a.jpg"
    assert items[0].path == tmp_path / parent / "val2014" / "a.jpg"


def test_karpathy_images_beside_the_json_which_is_the_root(tmp_path: Path) -> None:
    make_karpathy(tmp_path)
    for name in NAMES:
        (tmp_path / "images" / name).rename(tmp_path / name)
    assert read("karpathy", tmp_path / "dataset.json")[0].path == tmp_path / "a.jpg"


@pytest.mark.parametrize("source", ["jsonl", "csv"])
def test_a_folder_of_ones_own_without_splits(tmp_path: Path, source: Source) -> None:
    names = [f"sub/{n}.png" for n in range(30)]
    make_images(tmp_path, names)
    rows = [json.dumps({"image": name, "captions": ["A cat."]}) for name in names]
    (tmp_path / "captions.jsonl").write_text("\n".join(rows))
    (tmp_path / "captions.csv").write_text(
        "caption,image\r\n" + "".join(f"A cat.,{name}\r\n" for name in names)
    )
    items = read(source, tmp_path)
    assert Counter(i.split for i in items) == {"train": 24, "dev": 3, "test": 3}
    assert items[0].image_id == "sub/0.png"


@pytest.mark.parametrize("text", ["  Two\tdogs \n run. ", "Two dogs\u00a0run.", "Two\r\ndogs run."])
def test_blanks_collapse(tmp_path: Path, text: str) -> None:
    rows = jsonl_rows()
    rows[0]["captions"] = [text]
    assert read("jsonl", make_jsonl(tmp_path, rows))[0].captions == ("Two dogs run.",)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    make_flickr8k(tmp_path)
    for file in tmp_path.glob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    items = read("flickr8k", tmp_path)
    assert {i.image_id: i.split for i in items} == NAMES
    assert items[0].captions[0] == "Caption 0 of a.jpg ."


def test_link_within_the_folder_and_linked_folder(tmp_path: Path) -> None:
    make_jsonl(tmp_path / "real")
    (tmp_path / "real" / "a.jpg").unlink()
    (tmp_path / "real" / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert len(read("jsonl", tmp_path / "root")) == 4


def test_photos_in_flickr8k_layout() -> None:
    items = read("flickr8k", photos())
    assert Counter(i.split for i in items) == {"train": 802, "dev": 80, "test": 150}
    assert {len(i.captions) for i in items} == {5}


def test_ucm_captions_in_karpathy_format() -> None:
    items = read("karpathy", ucm_captions())
    assert Counter(i.split for i in items) == {"train": 1680, "dev": 210, "test": 210}
    assert {len(i.captions) for i in items} == {5}


def test_relative_root_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_jsonl(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    params = replace(params_of("jsonl", Path("mine")), root="mine")
    assert read_dataset(params)[0].path == Path("mine/a.jpg")
