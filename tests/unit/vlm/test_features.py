"""`vlm features`: what is inside a store, and each fault named by the images that have it.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_features.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.captions import ImageRecord, write_images
from pipeline.features.store import write_store
from vlm.main import main

IMAGES = [ImageRecord(f"image_{n}.png", f"image_{n}.png", f"{n:064x}", 8, 8) for n in range(8)]
SPEC: dict[str, Any] = {"name": "tiny", "layer": -2, "num_tokens": 4, "width": 5}


def make_store(folder: Path, images: list[ImageRecord] = IMAGES, bad: tuple[int, ...] = ()) -> Path:
    """A store of random features, those of rows `bad` not finite."""
    features = np.random.default_rng(0).normal(size=(len(images), 4, 5)).astype(np.float16)
    features[list(bad), 1, 2] = np.inf
    path = folder / "features.h5"
    write_store(path, images, SPEC, features)
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["features", *map(str, args)])


def flip_bit(path: Path, row: int) -> None:
    with h5py.File(path, "r") as file:
        place = file["features"].id.get_chunk_info(row).byte_offset + 7
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_inspect_says_what_is_inside(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    table = run("inspect", path)
    assert table.exit_code == 0, table.output
    rows = [" ".join(line.split()) for line in table.stdout.splitlines()]
    for row in ("images 8", "features 4 tokens x 5 of float16 an image", "encoder name tiny"):
        assert row in rows
    facts = json.loads(run("inspect", path, "--json").stdout)
    assert facts == {
        "images": 8,
        "num_tokens": 4,
        "width": 5,
        "dtype": "float16",
        "bytes": path.stat().st_size,
        "encoder": SPEC,
    }


def test_a_good_store_passes(tmp_path: Path) -> None:
    path, listing = make_store(tmp_path), tmp_path / "images.jsonl"
    write_images(listing, IMAGES)
    result = run("verify", path, "--images", listing)
    assert result.exit_code == 0, result.output
    assert "all 8 images are readable, finite, sorted and unique, and the images are those" in result.stdout


def test_damaged_images_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    for row in (2, 5):
        flip_bit(path, row)
    result = run("verify", path)
    assert result.exit_code == 1
    assert "checksum wrong or unreadable: image_2.png, image_5.png; delete the file and run" in result.stderr


def test_rows_that_hdf5_finds_whole_are_named_where_they_are_not_the_images_own(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    with h5py.File(path, "r+") as file:
        rows = file["features"]
        rows[1], rows[6] = rows[6], rows[1]
        rows[3] = 0
    result = run("verify", path)
    assert result.exit_code == 1
    assert "checksum wrong or unreadable: image_1.png, image_3.png, image_6.png; delete the file" in (
        result.stderr
    )


def test_many_bad_images_are_counted(tmp_path: Path) -> None:
    path = make_store(tmp_path, bad=tuple(range(1, 8)))
    result = run("verify", path)
    assert result.exit_code == 1
    assert "not finite: image_1.png, image_2.png, image_3.png, image_4.png, image_5.png and 2 more;" in (
        result.stderr
    )


@pytest.mark.parametrize("ids", [("b", "a"), ("a", "a")])
def test_ids_out_of_order_or_repeated_are_named(tmp_path: Path, ids: tuple[str, str]) -> None:
    images = [replace(IMAGES[0], image_id=image_id) for image_id in ids]
    result = run("verify", make_store(tmp_path, images))
    assert result.exit_code == 1
    assert "ids out of order or repeated: a;" in result.stderr


def test_another_list_of_images_is_compared_one_by_one(tmp_path: Path) -> None:
    listed = [replace(IMAGES[0], sha256="f" * 64), *IMAGES[1:7], replace(IMAGES[0], image_id="new.png")]
    listing = tmp_path / "images.jsonl"
    write_images(listing, listed)
    result = run("verify", make_store(tmp_path), "--images", listing)
    assert result.exit_code == 1
    changed, missing, surplus = result.stderr.splitlines()
    assert "other bytes than are listed: image_0.png; run `dvc repro encode`." in changed
    assert "listed but not in the store: new.png;" in missing
    assert "in the store but not listed: image_7.png;" in surplus


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_store_is_a_sentence(tmp_path: Path, command: str) -> None:
    path = tmp_path / "features.h5"
    assert "does not exist. Fix: run `dvc repro encode`" in run(command, path).stderr
    path.write_bytes(b"no store")
    result = run(command, path)
    assert result.exit_code == 1
    assert "is not a feature store" in result.stderr
    assert "Traceback" not in result.output
