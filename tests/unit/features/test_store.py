"""The feature cache: what is read is what was encoded, or a sentence says what is wrong.

Run: .venv/bin/python -m pytest tests/unit/features/test_store.py
"""

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.compatibility import features_digest, require_encoder
from pipeline.features.store import Features, FeatureStore, write_store

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


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def assert_refused(path: Path, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        FeatureStore(path)


# --- writing and reading --------------------------------------------------------------------------


def test_features_come_back_in_any_order(store_path: Path, features: Features) -> None:
    with FeatureStore(store_path) as store:
        assert list(store.image_ids) == NAMES
        assert list(store.sha256) == [image.sha256 for image in IMAGES]
        assert store.spec == SPEC
        assert len(store) == 6
        for order in ([0, 1, 2, 3, 4, 5], [4, 0, 5], [2, 2], []):
            read = store.read([NAMES[row] for row in order])
            assert read.dtype == np.float16
            assert read.shape == (len(order), 4, 5)
            assert (read == features[order]).all()
        with pytest.raises(PipelineError, match=r"has no image nobody\.png; run `dvc repro encode`"):
            store.read([NAMES[0], "nobody.png"])


def test_equal_content_gives_equal_bytes(tmp_path: Path, store_path: Path, features: Features) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    write_store(again, IMAGES, dict(reversed(SPEC.items())), iter(features))
    assert again.read_bytes() == store_path.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["other.h5"]


def test_ids_and_digests_are_sequences_of_text(tmp_path: Path, features: Features) -> None:
    images = [replace(image, image_id=f"{n}é/ü.png") for n, image in enumerate(IMAGES)]
    write_store(tmp_path / "features.h5", images, SPEC, features)
    with FeatureStore(tmp_path / "features.h5") as store:
        assert store.image_ids[-1] == "5é/ü.png"
        assert store.image_ids[1:3] == ["1é/ü.png", "2é/ü.png"]
        assert (store.read(["3é/ü.png"])[0] == features[3]).all()
        with pytest.raises(IndexError):
            store.image_ids[6]


def test_a_failing_write_leaves_the_old_store_and_nothing_else(
    tmp_path: Path, store_path: Path, features: Features
) -> None:
    def broken() -> Any:
        yield features[0]
        raise KeyboardInterrupt

    before = store_path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_store(store_path, IMAGES, SPEC, broken())
    for rows in (features[:5], [*features, features[0]]):
        with pytest.raises(ValueError, match="zip"):
            write_store(store_path, IMAGES, SPEC, rows)
    with pytest.raises(PipelineError, match="there are no images"):
        write_store(store_path, [], SPEC, [])
    assert store_path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [store_path]


# --- damage ---------------------------------------------------------------------------------------


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.h5", r"none\.h5 does not exist; run `dvc repro encode`")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100), None])
def test_what_is_not_a_store_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "features.h5"
    if content is None:
        with h5py.File(path, "w") as file:
            file["numbers"] = np.arange(3)
    else:
        path.write_bytes(content)
    assert_refused(path, r"features\.h5 is not a feature store .* delete it")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_store_is_refused(store_path: Path, share: float) -> None:
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(len(content) * share)])
    assert_refused(store_path, r"features\.h5 is not a feature store")


@pytest.mark.parametrize(
    "name", [b"image_3.png", IMAGES[2].sha256.encode(), b'"tiny"', b"num_tokens", "the digest of a row"]
)
def test_a_flipped_bit_is_found_in_ids_digests_and_facts(store_path: Path, name: bytes | str) -> None:
    if isinstance(name, str):
        with FeatureStore(store_path) as store:
            name = store.row_digests(["image_2.png"])[0].encode()
    flip(store_path, store_path.read_bytes().index(name) + len(name) - 1)
    assert_refused(store_path, r"features\.h5 is not a feature store")


def test_a_flipped_bit_is_found_in_the_image_that_it_is_in(store_path: Path, features: Features) -> None:
    flip(store_path, chunk(store_path, 3).start + 7)
    with FeatureStore(store_path) as store:
        others = [0, 1, 2, 4, 5]
        assert (store.read([NAMES[row] for row in others]) == features[others]).all()
        with pytest.raises(PipelineError, match=r"features\.h5 is damaged at image image_3\.png .*; delete"):
            store.read(["image_3.png"])
        for row, (image_id, sha256, values) in enumerate(store.rows()):
            assert (image_id, sha256) == (NAMES[row], IMAGES[row].sha256)
            if row == 3:
                assert "damaged at image image_3.png" in str(values)
            else:
                assert (values == features[row]).all()


def exchange_addresses(path: Path) -> None:
    """HDF5 says by address where each row lies; a wrong address would give another image's features."""
    one, two = (chunk(path, row).start.to_bytes(8, "little") for row in (4, 2))
    content = path.read_bytes()
    assert content.count(one) == 1
    path.write_bytes(content.replace(one, two))


def zero_with_checksum(path: Path) -> None:
    """HDF5's checksum of zeros is zero: a block of zeros on the disk passes it."""
    place = chunk(path, 4)
    content = bytearray(path.read_bytes())
    content[place] = bytes(place.stop - place.start)
    path.write_bytes(content)
    with h5py.File(path, "r") as file:
        assert not file["features"][4].any()


def exchange_with_checksums(path: Path) -> None:
    """HDF5's checksum does not say whose row it is."""
    with h5py.File(path, "r+") as file:
        rows = file["features"]
        rows[4], rows[5] = rows[5], rows[4]


def leave_unwritten(path: Path) -> None:
    """HDF5 reads rows that were never written as zeros."""
    with h5py.File(path, "r+") as file:
        values = file["features"][:]
        del file["features"]
        rows = file.create_dataset("features", values.shape, np.float16, chunks=(1, 4, 5), fletcher32=True)
        rows[:4] = values[:4]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (exchange_addresses, r"features\.h5 is "),
        (zero_with_checksum, r"damaged at image image_4\.png \(its digest is wrong\);"),
        (exchange_with_checksums, r"damaged at image image_4\.png \(its digest is wrong\);"),
        (leave_unwritten, r"features\.h5 is incomplete: 4 rows .* run `dvc repro encode`"),
    ],
)
def test_rows_that_hdf5_takes_for_good_are_found(
    store_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(store_path)
    with pytest.raises(PipelineError, match=said), FeatureStore(store_path) as store:
        store.read(["image_3.png", "image_4.png"])


def test_another_format_version_is_refused(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as file:
        file.attrs["format_version"] = 99
    assert_refused(store_path, r"features\.h5 has format version 99, expected 3; run")


def test_a_store_on_a_disk_that_fails_is_not_called_damaged(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        # HDF5 hides the system's number in its own words.
        raise OSError(f"Can't synchronously read data (file read failed: errno = {errno.EIO}, buf = 0x55d)")

    said = rf"cannot read {store_path}: {os.strerror(errno.EIO)}; it is left as it is"
    with FeatureStore(store_path) as store, monkeypatch.context() as patch:
        patch.setattr(h5py.Dataset, "read_direct", fail)
        with pytest.raises(PipelineError, match=said):
            store.read(["image_1.png"])
        patch.setattr(h5py, "File", fail)
        assert_refused(store_path, said)


# --- what is compared -----------------------------------------------------------------------------


def test_another_encoder_is_named_by_the_fact_that_differs(store_path: Path) -> None:
    with FeatureStore(store_path) as store:
        require_encoder(store, dict(SPEC), "the checkpoint")
        with pytest.raises(PipelineError, match=r"encoder layer -2, but the checkpoint needs -1; run"):
            require_encoder(store, {**SPEC, "layer": -1}, "the checkpoint")
        with pytest.raises(PipelineError, match=r"encoder grid None, but the checkpoint needs 4; run"):
            require_encoder(store, {**SPEC, "grid": 4}, "the checkpoint")


def row_digest_of(image: ImageRecord, features: Features) -> str:
    return hashlib.sha256(image.sha256.encode() + features.tobytes()).hexdigest()


@pytest.mark.parametrize("what", ["features", "file"])
def test_the_digests_say_whose_features_a_store_holds(tmp_path: Path, features: Features, what: str) -> None:
    """That of a row, and that of many rows in order, change with the features and with the file's bytes."""
    names = [NAMES[4], NAMES[0]]
    changed = features.copy()
    changed[0, 0, 0] += 1
    other = [replace(IMAGES[0], sha256="f" * 64), *IMAGES[1:]]
    found = []
    for images, values in (
        (IMAGES, features),
        (IMAGES, changed) if what == "features" else (other, features),
    ):
        write_store(tmp_path / "features.h5", images, SPEC, values)
        with FeatureStore(tmp_path / "features.h5") as store:
            found.append((store.row_digests(names), features_digest(store, names)))
        rows = [row_digest_of(images[row], values[row]) for row in (4, 0)]
        assert found[-1] == (rows, hashlib.sha256("".join(rows).encode()).hexdigest())
    assert found[0][0][0] == found[1][0][0]
    assert found[0][0][1] != found[1][0][1]
