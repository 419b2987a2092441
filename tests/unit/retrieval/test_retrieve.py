"""The retrieve stage: a memory of train images, and the neighbors of every image.

Run: .venv/bin/python -m pytest tests/unit/retrieval/test_retrieve.py
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.captions import CaptionRecord, ImageRecord, write_captions
from pipeline.errors import PipelineError
from pipeline.features.store import write_store
from pipeline.retrieval.memory import Memory
from pipeline.retrieval.neighbors import Neighbors
from pipeline.retrieval.retrieve import RetrievePaths, retrieve
from tests.refusals import flipped, refusal
from tests.unit.training.builders import retrieve_paths

# The mean feature of each image, its split, and the file that it has.
IMAGES: dict[str, tuple[list[float], str, int]] = {
    "a": ([2, 1], "train", 1),
    "b": ([1, 2], "train", 2),
    "c": ([2, 1.25], "train", 3),
    "d": ([0, 0], "train", 3),
    "e": ([2, 1], "dev", 1),
    "f": ([1, 3], "test", 9),
}
SPEC: dict[str, Any] = {"name": "random", "num_tokens": 2, "width": 2}


def find_neighbors(paths: RetrievePaths, similar_captions: int = 1) -> dict[str, str]:
    """The names of each image's neighbors, as the stage leaves them."""
    retrieve(paths, similar_captions)
    memory, found = Memory.read(paths.memory), Neighbors.read(paths.neighbors)
    assert found.memory == memory.digest
    return {
        image_id: "".join(memory.record(row)[0] for row in found.lookup([image_id])[0] if row >= 0)
        for image_id in found.image_ids
    }


@pytest.fixture
def paths(tmp_path: Path) -> RetrievePaths:
    """The inputs of the stage, and where it writes."""
    paths = retrieve_paths(tmp_path)
    # Tokens of an image lie around its mean.
    around = np.array([[1], [-1]], np.float16)
    tokens = [np.array(mean, np.float16) + around for mean, _, _ in IMAGES.values()]
    records = [ImageRecord(i, i, f"{file:064x}", 8, 8) for i, (_, _, file) in IMAGES.items()]
    write_store(paths.features, records, SPEC, tokens)
    captions = [CaptionRecord(i, split, (f"First of {i}", i)) for i, (_, split, _) in IMAGES.items()]  # type: ignore[arg-type]
    write_captions(paths.captions, captions)
    return paths


def test_neighbors_are_train_images_and_never_the_same_file(paths: RetrievePaths) -> None:
    assert find_neighbors(paths) == {"a": "cbd", "b": "cad", "c": "ab", "d": "ba", "e": "cbd", "f": "bcad"}


def test_without_similar_captions_train_images_have_no_neighbors(paths: RetrievePaths) -> None:
    assert find_neighbors(paths, similar_captions=0) == {"e": "cbd", "f": "bcad"}
    refusal(Neighbors.read(paths.neighbors).lookup, ["a"], match="a has no neighbors")


def test_a_memory_says_what_people_said_of_the_nearest_images(paths: RetrievePaths) -> None:
    find_neighbors(paths)
    memory = Memory.read(paths.memory)
    (rows,) = memory.nearest(memory.queries(np.array([[2.1, 1.0]], np.float32)), 2)
    assert memory.similar([*rows, -1]) == [["First of a", "a"], ["First of c", "c"]]


def test_equal_input_gives_equal_bytes_and_another_caption_another_memory(paths: RetrievePaths) -> None:
    written = [paths.memory, paths.neighbors]
    find_neighbors(paths)
    before, digest = [path.read_bytes() for path in written], Memory.read(paths.memory).digest
    find_neighbors(paths)
    assert [path.read_bytes() for path in written] == before
    captions = paths.captions.read_text()
    paths.captions.write_text(captions.replace("First of f", "Other of f"))
    find_neighbors(paths)
    assert Memory.read(paths.memory).digest == digest
    paths.captions.write_text(captions.replace("First of a", "Other of a"))
    find_neighbors(paths)
    assert Memory.read(paths.memory).digest != digest


@pytest.mark.parametrize(("name", "read"), [("memory.h5", Memory.read), ("neighbors.h5", Neighbors.read)])
def test_a_missing_or_damaged_file_names_the_stage(paths: RetrievePaths, name: str, read: Any) -> None:
    path = paths.memory.with_name(name)
    refusal(read, path, match=rf"{name} does not exist. Fix: run `dvc repro retrieve`")
    find_neighbors(paths)
    content, whole = path.read_bytes(), read(path).digest
    noticed = 0
    for place in range(0, len(content), 67):
        path.write_bytes(flipped(content, place))
        try:
            assert read(path).digest == whole  # HDF5 leaves some bytes unused
        except PipelineError:
            noticed += 1
    assert noticed > 10


def test_without_train_images_there_is_no_memory(paths: RetrievePaths) -> None:
    text = paths.captions.read_text().replace('"train"', '"dev"')
    paths.captions.write_text(text)
    refusal(retrieve, paths, 0, match="no train images")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("center", np.zeros(3, np.float32)),
        ("offsets", np.zeros(5, np.int64)),
        ("records", np.frombuffer(b'["a", 12]' * 4, np.uint8)),
    ],
)
def test_a_memory_whose_parts_do_not_fit_is_refused(paths: RetrievePaths, part: str, value: Any) -> None:
    """Its checksum is right: it was read, and captioning ended in a traceback."""
    find_neighbors(paths)
    memory = replace(Memory.read(paths.memory), **{part: value})
    if part == "records":
        memory = replace(memory, offsets=np.arange(0, 37, 9))
    memory.write(paths.memory)
    refusal(Memory.read, paths.memory, match=r"memory\.h5 is not a memory of captions")
