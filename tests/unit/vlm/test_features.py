"""`vlm features`: what is inside a store, and each fault named by the images concerned.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_features.py
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.captions import ImageRecord, write_images
from pipeline.features.store import write_store
from tests.vlm_command import run_vlm

IMAGES = [ImageRecord(f"image_{n}.png", f"image_{n}.png", f"{n:064x}", 8, 8) for n in range(8)]
SPEC: dict[str, Any] = {"name": "tiny", "layer": -2, "num_tokens": 4, "width": 5}


def make_store(folder: Path, images: list[ImageRecord] = IMAGES, bad: tuple[int, ...] = ()) -> Path:
    """A store of random features, those of rows `bad` not finite."""
    features = np.random.default_rng(0).normal(size=(len(images), 4, 5)).astype(np.float16)
    features[list(bad), 1, 2] = np.inf
    path = folder / "features.h5"
    write_store(path, images, SPEC, features)
    return path


run = partial(run_vlm, "features")


def test_inspect_says_what_is_inside(tmp_path: Path) -> None:
    path = make_store(tmp_path)
    rows = [" ".join(line.split()) for line in run("inspect", path).stdout.splitlines()]
    for row in ("images 8", "features 4 tokens x 5 of float16 an image", "encoder name tiny"):
        assert row in rows
    content = json.loads(run("inspect", path, "--json").stdout)
    assert (content["images"], content["bytes"], content["encoder"]) == (8, path.stat().st_size, SPEC)


def test_a_good_store_passes(tmp_path: Path) -> None:
    path, listing = make_store(tmp_path), tmp_path / "images.jsonl"
    write_images(listing, IMAGES)
    assert "all 8 images are readable, finite" in run("verify", path, "--images", listing).stdout


def test_bad_rows_are_named_and_many_counted(tmp_path: Path) -> None:
    """HDF5 finds rows whole that were exchanged, or zeroed with their checksum."""
    path = make_store(tmp_path)
    with h5py.File(path, "r+") as file:
        rows = file["features"]
        rows[1], rows[6] = rows[6], rows[1]
        rows[3] = 0
    named = "checksum wrong or unreadable: image_1.png, image_3.png, image_6.png. Fix: delete the file"
    assert named in run("verify", path, code=1).stderr
    infinite = run("verify", make_store(tmp_path, bad=tuple(range(1, 8))), code=1).stderr
    named = "not finite: image_1.png, image_2.png, image_3.png, image_4.png, image_5.png and 2 more."
    assert named in infinite


@pytest.mark.parametrize("ids", [("b", "a"), ("a", "a")])
def test_ids_out_of_order_or_repeated_are_named(tmp_path: Path, ids: tuple[str, str]) -> None:
    images = [replace(IMAGES[0], image_id=image_id) for image_id in ids]
    result = run("verify", make_store(tmp_path, images), code=1)
    assert "ids out of order or repeated: a." in result.stderr


def test_another_list_of_images_is_compared_image_by_image(tmp_path: Path) -> None:
    listed = [replace(IMAGES[0], sha256="f" * 64), *IMAGES[1:7], replace(IMAGES[0], image_id="new.png")]
    listing = tmp_path / "images.jsonl"
    write_images(listing, listed)
    result = run("verify", make_store(tmp_path), "--images", listing, code=1)
    changed, missing, surplus = result.stderr.splitlines()
    assert "other bytes than are listed: image_0.png. Fix: run `dvc repro encode`." in changed
    assert "listed but not in the store: new.png." in missing
    assert "in the store but not listed: image_7.png." in surplus
