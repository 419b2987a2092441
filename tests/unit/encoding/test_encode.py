"""The encode stage: however often it was interrupted, each image is encoded once, to the same bytes.

Run: .venv/bin/python -m pytest tests/unit/encoding/test_encode.py
"""

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
from pipeline.encoding.encode import EncodeSummary, encode_images
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore, write_store
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params
from pipeline.vision.load import load_encoder
from tests.edited_code import EditCode
from tests.refusals import refuse


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

    def encode(self, output: Path, scratch: Path) -> EncodeSummary:
        params = self.params
        execution = Execution(choose_placement("cpu"), params.runtime, scratch)
        return encode_images(self.listing, output, params.encoder, execution)


@pytest.fixture
def dataset(tmp_path: Path, tiny_params: Params) -> Dataset:
    (tmp_path / "images").mkdir()
    made = Dataset(tmp_path / "images", tiny_params)
    for number in range(10):
        made.draw(number, seed=0)
    made.list_images()
    return made


def test_all_images_are_encoded_once(tmp_path: Path, dataset: Dataset) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    assert dataset.encode(output, scratch) == EncodeSummary(images=10, encoded=10, num_tokens=16, width=32)
    before = output.read_bytes()
    assert dataset.encode(output, scratch).encoded == 0
    assert output.read_bytes() == before


def test_an_interrupted_run_continues_to_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, dataset: Dataset
) -> None:
    """The ninth image, in the third batch, cannot be read at first."""
    dataset.encode(tmp_path / "whole.h5", tmp_path / "scratch_of_whole")
    ninth = Path(dataset.images[8].path)
    aside = ninth.rename(tmp_path / "aside.png")
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    with pytest.raises(PipelineError, match=r"08\.png does not exist"):
        dataset.encode(output, scratch)
    assert not output.exists()
    aside.rename(ninth)
    assert dataset.encode(output, scratch).encoded == 2
    assert output.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_damaged_finished_work_is_encoded_anew(tmp_path: Path, dataset: Dataset) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    whole = output.read_bytes()
    block = max(scratch.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(block.read_bytes())
    content[-5] ^= 1
    block.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"safetensors was damaged \(its checksum is wrong\) and has been"
    ):
        dataset.encode(output, scratch)
    assert output.read_bytes() == whole
    output.unlink()
    assert dataset.encode(output, scratch).encoded == 4
    assert output.read_bytes() == whole


def test_finished_work_of_another_encoder_is_not_taken(tmp_path: Path, dataset: Dataset) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    of_one = set(scratch.iterdir())
    other = Dataset(
        dataset.folder, replace(dataset.params, encoder=replace(dataset.params.encoder, layer=-1))
    )
    other.encode(output, scratch)
    whole = output.read_bytes()
    (of_other,) = set(scratch.iterdir()) - of_one
    for block in of_one.pop().iterdir():
        shutil.copy(block, of_other)
    assert other.encode(output, scratch).encoded == 10
    assert output.read_bytes() == whole


def test_a_changed_image_alone_is_encoded_anew(tmp_path: Path, dataset: Dataset) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    with FeatureStore(output) as store:
        before = store.read(store.image_ids)
    dataset.draw(3, seed=1)
    dataset.list_images()
    assert dataset.encode(output, scratch).encoded == 1
    with FeatureStore(output) as store:
        changed = (store.read(store.image_ids) != before).any(axis=(1, 2))
    assert changed.nonzero()[0].tolist() == [3]


def test_images_of_equal_bytes_are_encoded_once(tmp_path: Path, dataset: Dataset) -> None:
    shutil.copy(dataset.folder / "00.png", dataset.folder / "10.png")
    dataset.list_images()
    done = dataset.encode(tmp_path / "features.h5", tmp_path / "scratch")
    assert (done.images, done.encoded) == (11, 10)
    with FeatureStore(tmp_path / "features.h5") as store:
        first, copy = store.read(["00.png", "10.png"])
    assert (first == copy).all()


def test_all_unreadable_images_are_named_when_the_others_are_encoded(
    tmp_path: Path, dataset: Dataset
) -> None:
    """The second and the tenth, in the first and in the last batch."""
    dataset.encode(tmp_path / "whole.h5", tmp_path / "scratch_of_whole")
    (dataset.folder / "01.png").rename(tmp_path / "01.png")
    original = (dataset.folder / "09.png").read_bytes()
    dataset.draw(9, seed=1)
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    with pytest.raises(
        PipelineError,
        match=r"^2 images cannot be encoded:\n  .*01\.png does not exist.*\n  .*09\.png has changed",
    ):
        dataset.encode(output, scratch)
    (tmp_path / "01.png").rename(dataset.folder / "01.png")
    (dataset.folder / "09.png").write_bytes(original)
    # Of the three batches (four, four, two) the one in between is kept.
    assert dataset.encode(output, scratch).encoded == 6
    assert output.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """Python's own, of finding, listing and joining; benchmarks/encoding.py measures processes."""
    spec = {"num_tokens": 1, "width": 1}
    peaks = []
    for count in (500, 5000):
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
    # The digests alone, in a list, would take 0.5 MB more.
    assert peaks[1] - peaks[0] < 300_000


def test_finished_work_that_cannot_be_read_now_is_left_alone(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not answer, or no file handles left: safetensors reports both as a missing file."""
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    blocks = set(scratch.rglob("*.safetensors"))
    with monkeypatch.context() as patch:
        refuse(patch, scratch)
        with pytest.raises(PipelineError, match=r"cannot read .*safetensors: Input/output error; it is left"):
            dataset.encode(output, scratch)
    assert set(scratch.rglob("*.safetensors")) == blocks
    assert dataset.encode(output, scratch).encoded == 0


def test_another_choice_of_features_shares_nothing(tmp_path: Path, dataset: Dataset) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    encoder = replace(dataset.params.encoder, layer=-1)
    other = Dataset(dataset.folder, replace(dataset.params, encoder=encoder))
    assert other.encode(output, scratch).encoded == 10
    assert dataset.encode(output, scratch).encoded == 0


def test_an_edit_that_can_change_features_encodes_again_and_no_other_does(
    tmp_path: Path, dataset: Dataset, edit_code: EditCode
) -> None:
    output, scratch = tmp_path / "features.h5", tmp_path / "scratch"
    dataset.encode(output, scratch)
    for name in ("images/images.py", "vision/image_processor.py", "encoding/batches.py"):
        with edit_code(name):
            assert dataset.encode(output, scratch).encoded == 10, name
    for name in (*result_code.ENCODE.without, "datasets/readers.py", "cluster/ray_engine.py"):
        with edit_code(name):
            assert dataset.encode(output, scratch).encoded == 0, name


def test_an_image_replaced_after_it_was_listed_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    dataset.draw(5, seed=1)
    with pytest.raises(PipelineError, match=r"05\.png has changed since it was listed; run `dvc repro`"):
        dataset.encode(tmp_path / "features.h5", tmp_path / "scratch")


def test_a_list_exchanged_while_images_are_encoded_gives_no_store(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images exchange their files: the store would have the digests of one list and rows of the other."""
    images = dataset.images
    one, two = images[3], images[4]
    exchanged = [
        replace(one, path=two.path, sha256=two.sha256),
        replace(two, path=one.path, sha256=one.sha256),
    ]
    output = tmp_path / "features.h5"

    def write_later(*arguments: Any) -> None:
        write_images(dataset.listing, [*images[:3], *exchanged, *images[5:]])
        write_store(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_store", write_later)
        with pytest.raises(PipelineError, match=r"images\.jsonl was changed while this command read it"):
            dataset.encode(output, tmp_path / "scratch")
    assert not output.exists()
    assert dataset.encode(output, tmp_path / "scratch").encoded == 0
    with FeatureStore(output) as store:
        assert dict(zip(store.image_ids, store.sha256, strict=True))[one.image_id] == two.sha256


def test_cached_features_are_those_encoded_on_the_fly(tmp_path: Path, dataset: Dataset) -> None:
    dataset.encode(tmp_path / "features.h5", tmp_path / "scratch")
    encoder = load_encoder(dataset.params.encoder, torch.device("cpu"))
    pixels = torch.stack([load_pixels(encoder, image) for image in dataset.images])
    with FeatureStore(tmp_path / "features.h5") as store:
        cached = torch.from_numpy(store.read(store.image_ids))
        assert store.spec == encoder.spec.as_dict()
    same_batches = torch.cat([encoder.encode(batch) for batch in pixels.split(4)])
    assert torch.equal(same_batches.half(), cached)
    one_by_one = torch.cat([encoder.encode(batch) for batch in pixels.split(1)])
    assert torch.allclose(one_by_one, cached.float(), atol=1e-3, rtol=1e-3)
