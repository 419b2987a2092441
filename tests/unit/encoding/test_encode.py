"""The encode stage: however often it was interrupted, each image is encoded once, to the same bytes.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_encode.py
"""

import importlib.metadata
import shutil
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import result_code
from pipeline.captions import ImageList, ImageRecord, read_images, write_images
from pipeline.encoding import batches, encode
from pipeline.encoding.batches import choose_batch, load_pixels
from pipeline.encoding.block_files import write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.encoding.encode import EncodeSummary, encoding_provenance
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore, write_store
from pipeline.params.schema import Params
from pipeline.vision.encoder import EncoderSpec
from pipeline.vision.load import load_encoder
from pipeline.vision.transformers_encoder import TransformersEncoder
from tests.edited_code import EditCode
from tests.pictures import Pictures


@pytest.fixture
def pictures(tmp_path: Path, tiny_params: Params) -> Pictures:
    """Ten pictures, encoded in batches of four by the tiny CLIP."""
    return Pictures(tmp_path, tiny_params, 10)


def test_all_images_are_encoded_once(pictures: Pictures) -> None:
    """The eleventh has the bytes of the first; a changed image alone is encoded again."""
    shutil.copy(pictures.images / "000.png", pictures.images / "010.png")
    pictures.list_images()
    assert pictures.encode() == EncodeSummary(images=11, encoded=10, num_tokens=16, width=32)
    before = pictures.store().read_bytes()
    assert pictures.encode().encoded == 0
    assert pictures.store().read_bytes() == before
    with FeatureStore(pictures.store()) as store:
        features = store.read(list(store.image_ids))
    assert (features[0] == features[10]).all()

    pictures.draw(3, seed=1)
    pictures.list_images()
    assert pictures.encode().encoded == 1
    with FeatureStore(pictures.store()) as store:
        changed = (store.read(list(store.image_ids)) != features).any(axis=(1, 2))
    assert changed.nonzero()[0].tolist() == [3]


def test_a_batch_that_does_not_fit_into_memory_is_encoded_in_halves(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes = TransformersEncoder.encode, list[int]()

    def with_little_room(self: TransformersEncoder, pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, pixels)

    pictures.encode()
    with FeatureStore(pictures.store()) as store:
        expected = store.read(list(store.image_ids))
    monkeypatch.setattr(TransformersEncoder, "encode", with_little_room)
    shutil.rmtree(pictures.scratch())
    pictures.encode()
    assert sizes == [1, 4, 2, 2, 4, 2, 2, 2]  # one image when the encoder is loaded
    with FeatureStore(pictures.store()) as store:
        assert np.allclose(store.read(list(store.image_ids)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("requested", "device", "free", "expected"),
    [(7, "cuda", 8e9, 7), ("auto", "cpu", 8e9, 32), ("auto", "cuda", 6e9, 32), ("auto", "cuda", 80e9, 256)],
)
def test_auto_encodes_as_many_images_at_once_as_a_gpu_has_memory_for(
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    requested: Any,
    device: str,
    free: float,
    expected: int,
) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda _device: free)
    runtime = replace(pictures.params.runtime, encode_batch_size=requested)
    assert choose_batch(runtime, torch.device(device)) == expected


def test_stored_features_are_those_encoded_on_the_fly(pictures: Pictures) -> None:
    pictures.encode()
    encoder = load_encoder(pictures.params.encoder, torch.device("cpu"))
    pixels = torch.stack([load_pixels(encoder, image) for image in read_images(pictures.listing)])
    with FeatureStore(pictures.store()) as store:
        stored = torch.from_numpy(store.read(list(store.image_ids)))
        assert store.spec == asdict(encoder.spec)
    same_batches = torch.cat([encoder.encode(batch) for batch in pixels.split(4)])
    assert torch.equal(same_batches.half(), stored)
    one_by_one = torch.cat([encoder.encode(batch) for batch in pixels.split(1)])
    assert torch.allclose(one_by_one, stored.float(), atol=1e-3, rtol=1e-3)


def test_unreadable_images_are_named_when_the_others_are_encoded(pictures: Pictures) -> None:
    """Of the three batches (four, four, two images) the good ones stay; in the end no byte differs."""
    pictures.encode("undisturbed")
    (pictures.images / "001.png").unlink()
    pictures.draw(9, seed=1)
    two = r"^2 images cannot be encoded:\n  .*001\.png does not exist.*\n  .*009\.png has changed"
    with pytest.raises(PipelineError, match=two):
        pictures.encode()
    pictures.draw(9)
    with pytest.raises(PipelineError, match=r"^\S+001\.png does not exist"):
        pictures.encode()
    assert not pictures.store().exists()
    pictures.draw(1)
    assert pictures.encode().encoded == 4
    assert pictures.store().read_bytes() == pictures.store("undisturbed").read_bytes()


def test_features_of_two_encoders_or_two_versions_of_a_library_are_not_mixed(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pictures.encode(layer=-1).encoded == pictures.encode().encoded == 10
    finished = pictures.store().read_bytes()
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.9" if name == "pillow" else version(name)
    )
    assert pictures.encode().encoded == 10
    assert pictures.store().read_bytes() == finished, "a finished output does not depend on versions"
    monkeypatch.undo()
    assert pictures.encode().encoded == 0


@pytest.mark.parametrize(("name", "counts"), [("wheel:efficientnet-lite0", True), ("org/clip", False)])
def test_the_package_of_a_wheels_encoder_is_in_the_provenance(name: str, counts: bool) -> None:
    spec = EncoderSpec(name, None, "0", -2, "patches", None, 224, "", 49, 8)
    assert ("efficientnet_lite_pytorch" in encoding_provenance(spec)["libraries"]) == counts


def test_an_edit_that_can_change_features_encodes_again_and_no_other_does(
    pictures: Pictures, edit_code: EditCode
) -> None:
    pictures.encode()
    edits = {"images/images.py": 10, "encoding/batches.py": 10, "cluster/ray_engine.py": 0}
    for name, encoded in (edits | dict.fromkeys(result_code.ENCODE.without, 0)).items():
        with edit_code(name):
            assert pictures.encode().encoded == encoded, name


def test_a_list_exchanged_while_images_are_encoded_gives_no_store(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images exchange their files: the store would have the digests of one list and rows of the other."""
    images = read_images(pictures.listing)
    images[3], images[4] = (
        replace(images[n], path=images[7 - n].path, sha256=images[7 - n].sha256) for n in (3, 4)
    )

    def write_later(*arguments: Any) -> None:
        write_images(pictures.listing, images)
        write_store(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_store", write_later)
        with pytest.raises(PipelineError, match=r"images\.jsonl was changed while this command read it"):
            pictures.encode()
    assert not pictures.store().exists()
    assert pictures.encode().encoded == 0
    with FeatureStore(pictures.store()) as store:
        assert list(store.sha256) == [image.sha256 for image in images]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """Python's own, of finding, listing and joining; benchmarks/encoding.py measures processes."""
    spec = {"num_tokens": 1, "width": 1}
    peaks = []
    for count in (1100, 3300):
        images = [ImageRecord(f"{n:06}", "a.png", f"{n:064x}", 1, 1) for n in range(count)]
        folder = tmp_path / str(count)
        for start in range(0, count, 25):
            write_block(folder, images[start : start + 25], np.zeros((25, 1, 1), np.float32))
        write_images(tmp_path / "images.jsonl", images)
        del images
        tracemalloc.start()
        listed = ImageList(tmp_path / "images.jsonl")
        with FeatureBlocks(folder) as blocks:
            assert blocks.note_missing(image.sha256 for image in listed) == 0
            features = blocks.read(image.sha256 for image in listed)
            write_store(tmp_path / f"{count}.h5", listed, spec, features)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The digests alone, in a list, would take 0.25 MB more.
    assert peaks[1] - peaks[0] < 150_000
