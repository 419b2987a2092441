"""The encode stage: however often it was interrupted, each image is encoded once, to the same bytes.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_encode.py
"""

import importlib.metadata
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.captions import read_images
from pipeline.encoding import batches
from pipeline.encoding import encode as encode_module
from pipeline.encoding.batches import choose_batch, load_pixels
from pipeline.encoding.encode import EncodeSummary, encoding_provenance
from pipeline.features.store import FeatureStore
from pipeline.params.schema import Params
from pipeline.vision.encoder import EncoderSpec
from pipeline.vision.load import load_encoder
from pipeline.vision.transformers_encoder import TransformersEncoder
from tests.edited_code import edited_code
from tests.pictures import Pictures
from tests.refusals import call_before, refusal


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
    features = pictures.features()
    assert (features[0] == features[10]).all()

    pictures.draw(3, seed=1)
    pictures.list_images()
    assert pictures.encode().encoded == 1
    changed = (pictures.features() != features).any(axis=(1, 2))
    assert changed.nonzero()[0].tolist() == [3]


def test_a_batch_too_large_is_encoded_in_halves(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def fill_memory(_: TransformersEncoder, pixels: Tensor) -> None:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    pictures.encode()
    expected = pictures.features()
    call_before(monkeypatch, TransformersEncoder, "encode", fill_memory)
    shutil.rmtree(pictures.scratch())
    pictures.encode()
    assert sizes == [1, 4, 2, 2, 4, 2, 2, 2]  # one image when the encoder is loaded
    assert np.allclose(pictures.features(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("requested", "device", "free", "expected"),
    [(7, "cuda", 8e9, 7), ("auto", "cpu", 8e9, 32), ("auto", "cuda", 6e9, 32), ("auto", "cuda", 80e9, 256)],
)
def test_auto_fills_a_gpus_memory_with_images(
    tiny_params: Params,
    monkeypatch: pytest.MonkeyPatch,
    requested: Any,
    device: str,
    free: float,
    expected: int,
) -> None:
    monkeypatch.setattr(batches, "free_memory", lambda _device: free)
    runtime = replace(tiny_params.runtime, encode_batch_size=requested)
    assert choose_batch(runtime, torch.device(device)) == expected


def test_few_images_are_in_memory_at_a_time(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four each: the batch that is encoded, and the two that are read meanwhile."""
    opened, ahead = list[Path](), list[int]()

    def wait(*_: object) -> None:
        time.sleep(0.2)  # the readers have done what they may do
        ahead.append(len(opened) - 4 * len(ahead))

    for number in range(10, 24):
        pictures.draw(number)
    pictures.list_images()
    encoder = load_encoder(pictures.params.encoder, torch.device("cpu"))
    monkeypatch.setattr(encode_module, "load_encoder", lambda *_: encoder)
    call_before(monkeypatch, TransformersEncoder, "encode", wait)
    call_before(monkeypatch, batches, "open_image", lambda path, *_: opened.append(path))
    assert pictures.encode().encoded == 24
    assert max(ahead) <= 12


def test_stored_features_are_those_encoded_on_the_fly(pictures: Pictures) -> None:
    pictures.encode()
    encoder = load_encoder(pictures.params.encoder, torch.device("cpu"))
    pixels = torch.stack([load_pixels(encoder, image) for image in read_images(pictures.listing)])
    stored = torch.from_numpy(pictures.features())
    with FeatureStore(pictures.store()) as store:
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
    refusal(pictures.encode, match=two)
    pictures.draw(9)
    refusal(pictures.encode, match=r"^\S+001\.png does not exist")
    assert not pictures.store().exists()
    pictures.draw(1)
    assert pictures.encode().encoded == 4
    assert pictures.store().read_bytes() == pictures.store("undisturbed").read_bytes()


def test_two_encoders_or_versions_are_not_mixed(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_only_an_edit_that_counts_encodes_again(pictures: Pictures) -> None:
    pictures.encode()
    for name, encoded in (("images/images.py", 10), ("cluster/ray_engine.py", 0)):
        with edited_code(name):
            assert pictures.encode().encoded == encoded, name
