"""Each dataset format becomes the same items; each fault a sentence naming file, line or image.

Run: .venv/bin/python -m pytest tests/unit/test_datasets.py
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.captions import Split
from pipeline.datasets import DatasetItem, read_dataset
from pipeline.errors import PipelineError
from pipeline.params import DataParams, Limits, ScenesParams
from tests.shared_data import photos, ucm_captions

Source = Literal["flickr8k", "karpathy", "jsonl", "csv"]
NAMES: dict[str, Split] = {"a.jpg": "train", "b.jpg": "train", "c.jpg": "dev", "d.jpg": "test"}
FLICKR_SPLITS = {split: f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")}


def params_of(source: Source, root: Path, limits: Limits | None = None) -> DataParams:
    return DataParams(
        source=source,
        root=str(root),
        limits=limits or Limits(train=None, dev=None, test=None),
        max_megapixels=1.0,
        scenes=ScenesParams(train=1, dev=1, test=1, image_size=64, seed=0),
    )


def read(source: Source, root: Path) -> list[DatasetItem]:
    return read_dataset(params_of(source, root))


def make_images(folder: Path, names: Iterable[str] = NAMES) -> None:
    """Files that only have to exist: reading a dataset opens no image."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not looked into")


def make_splits(folder: Path) -> None:
    for split, file in FLICKR_SPLITS.items():
        names = [name for name, its_split in NAMES.items() if its_split == split]
        (folder / file).write_text("".join(f"{name}\n" for name in names))


def make_flickr8k(root: Path) -> Path:
    make_images(root / "Flicker8k_Dataset")
    lines = [f"{name}#{k}\tCaption {k} of {name} .\n" for name in NAMES for k in range(2)]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    make_splits(root)
    return root


def make_kaggle(root: Path) -> Path:
    make_images(root / "Images")
    rows = [f'{name},"Caption {k} of {name} ."\n' for name in NAMES for k in range(2)]
    (root / "captions.txt").write_text("image,caption\n" + "".join(rows))
    return root


def karpathy_images() -> list[dict[str, Any]]:
    words = {"train": "train", "dev": "val", "test": "test"}
    return [
        {
            "filename": name,
            "split": words[split],
            "sentences": [{"raw": f"Caption {k} of {name} .", "tokens": []} for k in range(2)],
        }
        for name, split in NAMES.items()
    ]


def make_karpathy(root: Path, images: object = None, name: str = "dataset.json") -> Path:
    make_images(root / "images")
    content = {"dataset": "x", "images": karpathy_images() if images is None else images}
    (root / name).write_text(json.dumps(content))
    return root


def jsonl_rows() -> list[dict[str, Any]]:
    return [
        {"image": name, "split": split, "captions": [f"Caption {k} of {name} ." for k in range(2)]}
        for name, split in NAMES.items()
    ]


def make_jsonl(root: Path, rows: Iterable[object] | None = None) -> Path:
    make_images(root)
    lines = [json.dumps(row) for row in (jsonl_rows() if rows is None else rows)]
    (root / "captions.jsonl").write_text("\n".join(lines))
    return root


def make_csv(root: Path, extra: str = "") -> Path:
    make_images(root)
    rows = [f"{n},Caption {k} of {n} .,{s}\n" for n, s in NAMES.items() for k in range(2)]
    (root / "captions.csv").write_text("image,caption,split\n" + "".join(rows) + extra)
    return root


MAKERS: dict[Source, Callable[[Path], Path]] = {
    "flickr8k": make_flickr8k,
    "karpathy": make_karpathy,
    "jsonl": make_jsonl,
    "csv": make_csv,
}


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


# --- what is read ---------------------------------------------------------------------------------


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


# --- what is refused ------------------------------------------------------------------------------


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


def bad_row(tmp_path: Path, **changes: object) -> Path:
    """A jsonl dataset whose second line is changed; None takes a key away."""
    rows = jsonl_rows()
    rows[1] = {key: v for key, v in {**rows[1], **changes}.items() if v is not None}
    return make_jsonl(tmp_path, rows)


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


def test_relative_root_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_jsonl(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    params = replace(params_of("jsonl", Path("mine")), root="mine")
    assert read_dataset(params)[0].path == Path("mine/a.jpg")
