"""The feature store: features that are read are those that were written, or a sentence says what is wrong.

Run: .venv/bin/python -m pytest tests/unit/features/test_store.py
"""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import h5py
import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.store import Features, FeatureStore, write_store
from tests.refusals import flipped, refusal

IMAGES = [ImageRecord(f"image_{n}.png", f"image_{n}.png", f"{n:064x}", 8, 8) for n in range(6)]
NAMES = [image.image_id for image in IMAGES]
SPEC: dict[str, Any] = {"name": "tiny", "layer": -2, "num_tokens": 4, "width": 5}


@pytest.fixture
def features() -> Features:
    return np.random.default_rng(0).normal(size=(len(IMAGES), 4, 5)).astype(np.float16)


@pytest.fixture
def store_path(tmp_path: Path, features: Features) -> Path:
    path = tmp_path / "features.h5"
    write_store(path, IMAGES, SPEC, features)
    return path


def chunk(path: Path, row: int) -> slice:
    """Where the features of a row lie in the file."""
    with h5py.File(path, "r") as file:
        info = file["features"].id.get_chunk_info(row)
    return slice(info.byte_offset, info.byte_offset + info.size)


# --- writing and reading --------------------------------------------------------------------------


def test_features_come_back_in_any_order(tmp_path: Path, features: Features) -> None:
    images = [replace(image, image_id=f"{n}é/ü.png") for n, image in enumerate(IMAGES)]
    names = [image.image_id for image in images]
    write_store(tmp_path / "features.h5", images, SPEC, features)
    with FeatureStore(tmp_path / "features.h5") as store:
        assert (list(store.image_ids), store.spec, len(store)) == (names, SPEC, 6)
        assert list(store.sha256) == [image.sha256 for image in images]
        for order in ([0, 1, 2, 3, 4, 5], [4, 0, 5], [2, 2], []):
            values = store.read([names[row] for row in order])
            assert values.dtype == np.float16
            assert values.shape == (len(order), 4, 5)
            assert (values == features[order]).all()
        refusal(store.read, [names[0], "nobody.png"], match=r"nobody\.png")


def test_equal_content_gives_equal_bytes(tmp_path: Path, store_path: Path, features: Features) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    write_store(again, IMAGES, dict(reversed(SPEC.items())), iter(features))
    assert again.read_bytes() == store_path.read_bytes()


def test_a_failing_write_leaves_the_old_store(tmp_path: Path, store_path: Path, features: Features) -> None:
    before = store_path.read_bytes()
    for rows in (features[:5], [*features, features[0]]):
        with pytest.raises(ValueError, match="zip"):
            write_store(store_path, IMAGES, SPEC, rows)
    refusal(write_store, store_path, [], SPEC, [], match="no images")
    assert store_path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [store_path]


# --- damage ---------------------------------------------------------------------------------------


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    refusal(FeatureStore, tmp_path / "none.h5", match=r"none\.h5 does not exist.*`dvc repro encode`")


@pytest.mark.parametrize("size", [0, 5, 0.5, 0.999])
def test_a_file_that_is_not_a_store_is_refused(store_path: Path, size: float) -> None:
    os.truncate(store_path, int(store_path.stat().st_size * size) if size < 1 else int(size))
    refusal(FeatureStore, store_path, match=r"features\.h5 is not a feature store")


def test_another_file_of_hdf5_and_another_version_are_refused(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as file:
        file.attrs["format_version"] = 99
    refusal(
        FeatureStore,
        store_path,
        match=r"features\.h5 has format version 99; a feature store of this project has 3",
    )
    with h5py.File(store_path, "w") as file:
        file["numbers"] = np.arange(3)
    refusal(FeatureStore, store_path, match=r"features\.h5 is not a feature store")


def test_a_flipped_bit_is_found_in_its_image_alone(store_path: Path, features: Features) -> None:
    store_path.write_bytes(flipped(store_path.read_bytes(), chunk(store_path, 3).start + 7))
    with FeatureStore(store_path) as store:
        others = [0, 1, 2, 4, 5]
        assert (store.read([NAMES[row] for row in others]) == features[others]).all()
        refusal(store.read, ["image_3.png"], match=r"features\.h5 is damaged at image image_3\.png")
        for row, (image_id, values) in enumerate(store.rows()):
            assert image_id == NAMES[row]
            assert isinstance(values, PipelineError) if row == 3 else (values == features[row]).all()


def exchange_addresses(path: Path) -> None:
    """HDF5 says by address where each row lies; a wrong address would give another image's features."""
    first, second = (chunk(path, row).start.to_bytes(8, "little") for row in (4, 2))
    content = path.read_bytes()
    assert content.count(first) == 1
    path.write_bytes(content.replace(first, second))


def leave_unwritten(path: Path) -> None:
    """HDF5 reads rows that were never written as zeros."""
    with h5py.File(path, "r+") as file:
        values = file["features"][:]
        del file["features"]
        rows = file.create_dataset("features", values.shape, np.float16, chunks=(1, 4, 5), fletcher32=True)
        rows[:4] = values[:4]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (exchange_addresses, r"features\.h5 is "),
        (leave_unwritten, r"features\.h5 is incomplete: 4 rows .*`dvc repro encode`"),
    ],
)
def test_false_rows_are_found(store_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(store_path)
    with pytest.raises(PipelineError, match=message), FeatureStore(store_path) as store:
        store.read(["image_3.png", "image_4.png"])


def test_what_cannot_be_read_is_not_damaged(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # HDF5 has the system's number only in its text.
    error = OSError(f"Can't synchronously read data (file read failed: errno = {errno.EIO}, buf = 0x55d)")
    fail = Mock(side_effect=error)
    message = f"cannot read {store_path}: {os.strerror(errno.EIO)}"
    with FeatureStore(store_path) as store, monkeypatch.context() as patch:
        patch.setattr(h5py.Dataset, "read_direct", fail)
        refusal(store.read, ["image_1.png"], match=message)
        patch.setattr(h5py, "File", fail)
        refusal(FeatureStore, store_path, match=message)


# --- what is compared -----------------------------------------------------------------------------


def test_the_setting_in_which_another_encoder_differs_is_named(store_path: Path) -> None:
    with FeatureStore(store_path) as store:
        store.require_encoder(dict(SPEC), "the checkpoint")
        for name, actual, expected in (("layer", -2, -1), ("grid", None, 4)):
            with pytest.raises(PipelineError, match=f"{name} {actual}, but the checkpoint needs {expected}"):
                store.require_encoder({**SPEC, name: expected}, "the checkpoint")
