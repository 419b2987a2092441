"""The feature cache: what is read is what was encoded, however often the run was interrupted.

Run: .venv/bin/python -m pytest tests/unit/features/test_store.py
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.store import Features, FeatureStore, write_store

IMAGES = [ImageRecord(f"image_{n}.png", f"image_{n}.png", f"{n:064x}", 8, 8) for n in range(6)]
SPEC: dict[str, Any] = {"name": "tiny", "layer": -2, "num_tokens": 4, "width": 5}


@pytest.fixture
def features() -> Features:
    return np.random.default_rng(0).normal(size=(len(IMAGES), 4, 5)).astype(np.float16)


@pytest.fixture
def store_path(tmp_path: Path, features: Features) -> Path:
    path = tmp_path / "features.h5"
    write_store(path, IMAGES, SPEC, features)
    return path


def test_features_come_back_in_any_order(store_path: Path, features: Features) -> None:
    with FeatureStore(store_path) as store:
        assert list(store.image_ids) == [image.image_id for image in IMAGES]
        assert list(store.sha256) == [image.sha256 for image in IMAGES]
        assert store.spec == SPEC
        assert len(store) == 6
        for order in ([0, 1, 2, 3, 4, 5], [4, 0, 5], [2, 2], []):
            read = store.read([IMAGES[row].image_id for row in order])
            assert read.dtype == np.float16
            assert read.shape == (len(order), 4, 5)
            assert (read == features[order]).all()


def test_equal_content_gives_equal_bytes(tmp_path: Path, store_path: Path, features: Features) -> None:
    again = tmp_path / "elsewhere" / "other.h5"
    write_store(again, IMAGES, dict(reversed(SPEC.items())), iter(features))
    assert again.read_bytes() == store_path.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["other.h5"]


def test_a_failing_write_leaves_the_old_store_and_nothing_else(
    tmp_path: Path, store_path: Path, features: Features
) -> None:
    def broken() -> Any:
        yield features[0]
        raise KeyboardInterrupt

    before = store_path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_store(store_path, IMAGES, SPEC, broken())
    assert store_path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [store_path]


def test_ids_and_digests_are_sequences_of_text(tmp_path: Path, features: Features) -> None:
    images = [replace(image, image_id=f"{n}é/ü.png") for n, image in enumerate(IMAGES)]
    write_store(tmp_path / "features.h5", images, SPEC, features)
    with FeatureStore(tmp_path / "features.h5") as store:
        assert store.image_ids[-1] == "5é/ü.png"
        assert store.image_ids[1:3] == ["1é/ü.png", "2é/ü.png"]
        assert (store.read(["3é/ü.png"])[0] == features[3]).all()
        with pytest.raises(IndexError):
            store.image_ids[6]


def test_rows_come_in_order_with_an_error_where_one_is_damaged(store_path: Path, features: Features) -> None:
    with h5py.File(store_path, "r") as file:
        place = file["features"].id.get_chunk_info(2).byte_offset + 1
    content = bytearray(store_path.read_bytes())
    content[place] ^= 1
    store_path.write_bytes(content)
    with FeatureStore(store_path) as store:
        for row, (image_id, sha256, values) in enumerate(store.rows()):
            assert (image_id, sha256) == (IMAGES[row].image_id, IMAGES[row].sha256)
            if row == 2:
                assert "damaged at image image_2.png" in str(values)
            else:
                assert (values == features[row]).all()


def test_an_unknown_image_is_named(store_path: Path) -> None:
    with (
        FeatureStore(store_path) as store,
        pytest.raises(PipelineError, match=r"features\.h5 has no image nobody\.png; run `dvc repro encode`"),
    ):
        store.read([IMAGES[0].image_id, "nobody.png"])


def test_another_encoder_is_named_by_the_fact_that_differs(store_path: Path) -> None:
    with FeatureStore(store_path) as store:
        store.require_encoder(dict(SPEC), "the checkpoint")
        with pytest.raises(PipelineError, match=r"encoder layer -2, but the checkpoint needs -1; run"):
            store.require_encoder({**SPEC, "layer": -1}, "the checkpoint")
        with pytest.raises(PipelineError, match=r"encoder grid None, but the checkpoint needs 4; run"):
            store.require_encoder({**SPEC, "grid": 4}, "the checkpoint")


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.h5 does not exist; run `dvc repro encode`"):
        FeatureStore(tmp_path / "none.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "features.h5"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"features\.h5 is no readable feature store .* delete it"):
        FeatureStore(path)


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(PipelineError, match=r"features\.h5 is no readable feature store"):
        FeatureStore(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_store_is_refused(store_path: Path, share: float) -> None:
    content = store_path.read_bytes()
    store_path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PipelineError, match=r"features\.h5 is no readable feature store"):
        FeatureStore(store_path)


def test_a_flipped_bit_is_found_in_the_image_that_it_is_in(store_path: Path, features: Features) -> None:
    with h5py.File(store_path, "r") as file:
        place = file["features"].id.get_chunk_info(3).byte_offset + 7
    content = bytearray(store_path.read_bytes())
    content[place] ^= 1
    store_path.write_bytes(content)
    with FeatureStore(store_path) as store:
        others = [0, 1, 2, 4, 5]
        assert (store.read([IMAGES[row].image_id for row in others]) == features[others]).all()
        with pytest.raises(PipelineError, match=r"features\.h5 is damaged at image image_3\.png .*; delete"):
            store.read([IMAGES[3].image_id])


@pytest.mark.parametrize(
    "name", [b"image_3.png", IMAGES[2].sha256.encode(), b'"tiny"', b"num_tokens", "the digest of a row"]
)
def test_a_flipped_bit_is_found_in_ids_digests_and_facts(store_path: Path, name: bytes | str) -> None:
    content = store_path.read_bytes()
    if isinstance(name, str):
        with FeatureStore(store_path) as store:
            name = store.row_digests(["image_2.png"])[0].encode()
    assert name in content
    store_path.write_bytes(content.replace(name, name[:-1] + bytes([name[-1] ^ 1]), 1))
    with pytest.raises(PipelineError, match=r"features\.h5 is no readable feature store"):
        FeatureStore(store_path)


def test_rows_exchanged_in_the_files_own_index_are_found(store_path: Path) -> None:
    """HDF5 says by address where each row lies; a wrong address would give another image's features."""
    with h5py.File(store_path, "r") as file:
        places = [file["features"].id.get_chunk_info(row).byte_offset for row in (1, 2)]
    one, two = (place.to_bytes(8, "little") for place in places)
    content = store_path.read_bytes()
    assert content.count(one) == 1
    store_path.write_bytes(content.replace(one, two))
    with pytest.raises(PipelineError, match=r"features\.h5 is "), FeatureStore(store_path) as store:
        store.read(store.image_ids)


def test_rows_zeroed_together_with_their_checksum_are_found(store_path: Path, features: Features) -> None:
    """HDF5's checksum of zeros is zero: a block of zeros on the disk passes it."""
    with h5py.File(store_path, "r") as file:
        chunk = file["features"].id.get_chunk_info(4)
    content = bytearray(store_path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    store_path.write_bytes(content)
    with h5py.File(store_path, "r") as file:
        assert not file["features"][4].any()
    with FeatureStore(store_path) as store:
        assert (store.read(["image_3.png"])[0] == features[3]).all()
        with pytest.raises(PipelineError, match=r"damaged at image image_4\.png \(its digest is wrong\);"):
            store.read(["image_3.png", "image_4.png"])


def test_rows_exchanged_together_with_their_checksums_are_found(store_path: Path) -> None:
    """HDF5's checksum does not say whose row it is."""
    with h5py.File(store_path, "r+") as file:
        rows = file["features"]
        rows[1], rows[5] = rows[5], rows[1]
    with FeatureStore(store_path) as store:
        for name in ("image_1.png", "image_5.png"):
            with pytest.raises(PipelineError, match=rf"damaged at image {name} \(its digest is wrong\)"):
                store.read([name])


def test_the_digest_of_a_row_says_whose_features_it_holds(
    tmp_path: Path, store_path: Path, features: Features
) -> None:
    names = [IMAGES[row].image_id for row in (4, 0)]
    with FeatureStore(store_path) as store:
        before = store.row_digests(names)
    assert before == [
        hashlib.sha256(IMAGES[row].sha256.encode() + features[row].tobytes()).hexdigest() for row in (4, 0)
    ]
    for row, images in ((0, IMAGES), (1, [replace(IMAGES[0], sha256="f" * 64), *IMAGES[1:]])):
        changed = features.copy()
        changed[row, 0, 0] += 1
        write_store(tmp_path / "other.h5", images, SPEC, changed)
        with FeatureStore(tmp_path / "other.h5") as store:
            now = store.row_digests(names)
        assert now[0] == before[0]
        assert now[1] != before[1]


def test_rows_that_were_never_written_are_not_read_as_zeros(store_path: Path, features: Features) -> None:
    with h5py.File(store_path, "r+") as file:
        del file["features"]
        rows = file.create_dataset("features", features.shape, np.float16, chunks=(1, 4, 5), fletcher32=True)
        rows[:4] = features[:4]
    with pytest.raises(PipelineError, match=r"features\.h5 is incomplete: 4 rows .* run `dvc repro encode`"):
        FeatureStore(store_path)


@pytest.mark.parametrize("count", [5, 7])
def test_a_store_is_not_written_of_other_rows_than_images(
    tmp_path: Path, features: Features, count: int
) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_store(tmp_path / "features.h5", IMAGES, SPEC, [*features, features[0]][:count])
    assert list(tmp_path.iterdir()) == []


def test_another_format_version_is_refused(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(PipelineError, match=r"features\.h5 has format version 99, expected 3; run"):
        FeatureStore(store_path)
