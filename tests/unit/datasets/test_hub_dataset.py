"""A pinned dataset of the hub: downloaded, compared with its pins, unpacked, and what can go wrong.

The hub is a stand-in on loopback (tests/hub_stand_in.py), the dataset tiny.

Run: .venv/bin/python -m pytest tests/unit/datasets/test_hub_dataset.py
"""

import errno
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow.parquet
import pytest
from PIL import Image

from pipeline.captions import CaptionRecord
from pipeline.datasets.hub_dataset import unpack_hub_dataset
from pipeline.datasets.pins import read_pins
from pipeline.params.schema import Limits
from tests.dataset_makers import ALL
from tests.hub_stand_in import HubStandIn
from tests.refusals import fail_reads, refusal
from tests.tiny_flickr8k import COLUMNS, COMMIT, NAME, pins_of, save_flickr8k, save_parquet, write_pins

TRAIN_2 = "data/train-00001-of-00002.parquet"


class Dataset:
    """The tiny dataset at a hub, its pins, and the folder to unpack it into."""

    def __init__(self, hub: HubStandIn, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.files, self.images = folder / "files", folder / "images"
        save_flickr8k(self.files)
        self.pin_as_it_is()

    def pin_as_it_is(self) -> None:
        """Serve the files as they are now, with pins that agree with them."""
        self.pins = pins_of(self.files)
        self.hub.add(NAME, self.files, COMMIT, kind="dataset")

    def unpack(self, limits: Limits = ALL) -> list[tuple[CaptionRecord, Path]]:
        pins = read_pins(write_pins(self.folder / "pins.json", self.pins))
        return unpack_hub_dataset(pins, limits, self.images)


@pytest.fixture
def dataset(local_hub: HubStandIn, tmp_path: Path) -> Dataset:
    return Dataset(local_hub, tmp_path)


def rows(count: int, **changed: Any) -> list[dict[str, Any]]:
    image = {"bytes": b"\xff\xd8\xff picture", "path": "x.jpg"}
    return [{"image": image, **dict.fromkeys(COLUMNS, "A dog."), **changed} for _ in range(count)]


def test_images_and_captions_are_unpacked_once_with_their_splits(dataset: Dataset) -> None:
    entries = dataset.unpack()
    records = {record.image_id: record for record, _ in entries}
    assert Counter(record.split for record in records.values()) == {"train": 9, "dev": 3, "test": 4}
    assert list(records) == sorted(records)
    # Rows go on in the split's next file.
    captions = records["train_00006.jpg"].captions
    assert captions == tuple(f"Caption {k} of a picture with number 5 ." for k in range(5))
    assert [path for _, path in entries] == [dataset.images / image_id for image_id in records]
    assert {Image.open(path).size for _, path in entries} == {(60, 40)}

    times = [path.stat().st_mtime_ns for _, path in entries]
    dataset.hub.stop()
    assert dataset.unpack() == entries
    assert [path.stat().st_mtime_ns for _, path in entries] == times


def test_limits_download_no_more_than_they_keep(dataset: Dataset, log: pytest.LogCaptureFixture) -> None:
    ids = [record.image_id for record, _ in dataset.unpack(Limits(train=2, dev=1, test=None))]
    assert [ids[0], *ids[5:]] == ["dev_00001.jpg", "train_00001.jpg", "train_00002.jpg"]
    assert not dataset.hub.transfers(TRAIN_2)
    assert "data.limits keeps 7 of 16 images" in log.text


def test_an_interrupted_run_continues(dataset: Dataset) -> None:
    dataset.hub.truncated, dataset.hub.share = 1000, 0.0
    message = refusal(dataset.unpack)
    assert f"The download of {NAME} broke off" in message
    assert f"`hf download {NAME} --repo-type dataset --revision {COMMIT}`" in message
    dataset.hub.truncated = 1
    entries = dataset.unpack()
    # A killed process leaves one image missing, one incomplete, one under its temporary name.
    whole = entries[3][1].read_bytes()
    entries[2][1].unlink()
    entries[3][1].write_bytes(whole[:100])
    (dataset.images / ".train_00009.jpg.part").write_bytes(b"")
    assert dataset.unpack() == entries
    assert entries[3][1].read_bytes() == whole
    assert len(list(dataset.images.iterdir())) == 16


def test_a_shard_on_a_disk_that_fails_is_not_damaged(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback, or called not a parquet file."""
    dataset.unpack()
    failing = Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    for fail in (
        lambda patch: patch.setattr(pyarrow.parquet, "ParquetFile", failing),
        lambda patch: fail_reads(patch, tmp_path / "cache"),
    ):
        with monkeypatch.context() as patch:
            fail(patch)
            assert re.search(r"cannot read .*\.parquet: Input/output error", refusal(dataset.unpack))
    assert len(dataset.unpack()) == 16


def test_bytes_of_no_pin_are_fetched_again(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    dataset.hub.corrupted = {TRAIN_2}
    assert f"{TRAIN_2} of {NAME} is not the file that is pinned" in refusal(dataset.unpack)
    assert f"{TRAIN_2} of {NAME} is damaged in the cache" in caplog.text
    assert not dataset.images.exists()


def test_files_of_another_run(dataset: Dataset) -> None:
    dataset.unpack(Limits(train=3, dev=None, test=None))
    (dataset.images / "mine.jpg").touch()
    assert "holds 1 files that are not of this dataset (mine.jpg, ...)" in refusal(dataset.unpack)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows(5), "has 5 rows, its pins say 4"),
        (rows(4, image={"bytes": None, "path": "x.jpg"}), "row 0 has no image"),
        (rows(4, image={"bytes": b"GIF89a", "path": None}), "row 0 is neither a JPEG nor a PNG"),
        (rows(4, caption_4=None), "row 0: a caption is None, expected text"),
        ([], "is not a parquet file"),
    ],
)
def test_rows_without_image_or_caption(dataset: Dataset, content: list[dict[str, Any]], message: str) -> None:
    save_parquet(dataset.files / TRAIN_2, content)
    if not content:
        (dataset.files / TRAIN_2).write_bytes(b"PAR1 nothing PAR1")
    dataset.pin_as_it_is()
    assert re.search(f"{Path(TRAIN_2).name}.*{message}", refusal(dataset.unpack))


def test_absent_columns_and_absurd_sizes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.datasets.parquet.MAX_IMAGE_BYTES", 100)
    assert "1 to 100 bytes" in refusal(dataset.unpack)
    monkeypatch.setattr("pipeline.datasets.parquet.MAX_ROW_GROUP_BYTES", 100)
    assert "bytes at a time; at most 100" in refusal(dataset.unpack)
    dataset.pins["caption_columns"] = ["text"]
    assert "has no column 'text'; its columns are image, caption_0" in refusal(dataset.unpack)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("revision", "main", "'main'.*40 hex digits of a commit"),
        ("shards", [], "one or more of each split"),
        ("shards.0.split", "validation", "'validation'.*train, dev, test"),
        *(("shards.0.file", path, "data/train.parquet") for path in ("../x.parquet", "/x")),
        ("shards.0.sha256", "abc", "64 hex digits"),
        ("shards.0.rows", 0, "1 to 1000000"),
        ("color", "red", "repository, revision"),
    ],
)
def test_pins_that_are_not_allowed(tmp_path: Path, key: str, value: object, message: str) -> None:
    save_flickr8k(tmp_path)
    pins = pins_of(tmp_path)
    section = pins["shards"][0] if "." in key else pins
    section[key.rpartition(".")[2]] = value
    refusal(read_pins, write_pins(tmp_path / "pins.json", pins), match=rf"pins\.json: .*{key}.*{message}")
