"""Readers of files from people and strangers, fed files that were changed at random.

Such a file has no checksum. Its reader may take it, or fail by its sentence, and in no other way. Files with
a checksum are in tests/unit, next to what reads them.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.captions import read_captions, read_images
from pipeline.errors import PipelineError
from pipeline.images.images import describe_image, open_image
from pipeline.params.loader import load_params
from tests.dataset_makers import MAKERS, make_kaggle
from tests.dataset_makers import read as read_source
from tests.faults import child
from tests.faults.damage import CHANGES
from tests.faults.lab import Lab, Tally
from tests.pictures import noise


def _picture(path: Path) -> None:
    image = open_image(path, 1.0)
    assert (image.mode, min(image.size) > 0) == ("RGB", True)
    describe_image(path, 1.0)


def _dataset(source: str) -> Callable[[Path], None]:
    """The reader of a dataset's folder, of which one file is changed."""

    def read_file(path: Path) -> None:
        root = next(folder for folder in path.parents if folder.name == f"fuzz_{source}")
        for record, image in read_source(source, root):
            assert record.captions
            assert image.is_relative_to(root)

    return read_file


def _make_inputs() -> None:
    """Write what the readers of others' files read: datasets in every format, images of each kind."""
    for source, make in MAKERS.items():
        make(Path(f"fuzz_{source}").absolute())
    make_kaggle(Path("fuzz_kaggle/fuzz_flickr8k").absolute())
    Path("fuzz_pictures").mkdir()
    for suffix in _PICTURES:
        noise(32, 24).save(f"fuzz_pictures/picture.{suffix}")


_PICTURES = ("png", "jpg", "webp", "gif", "tiff", "bmp")
# Name -> where the file lies, and its reader.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "images.jsonl": ("data/images.jsonl", read_images),
    "captions.jsonl": ("data/captions.jsonl", read_captions),
    "params.yaml": ("params.yaml", load_params),
    "dataset: Flickr8k, captions": ("fuzz_flickr8k/Flickr8k.token.txt", _dataset("flickr8k")),
    "dataset: Flickr8k, splits": ("fuzz_flickr8k/*trainImages.txt", _dataset("flickr8k")),
    "dataset: Flickr8k of Kaggle": ("fuzz_kaggle/fuzz_flickr8k/captions.txt", _dataset("flickr8k")),
    "dataset: Karpathy's JSON": ("fuzz_karpathy/dataset.json", _dataset("karpathy")),
    "dataset: JSON lines": ("fuzz_jsonl/captions.jsonl", _dataset("jsonl")),
    "dataset: CSV": ("fuzz_csv/captions.csv", _dataset("csv")),
    **{f"image: {suffix}": (f"fuzz_pictures/picture.{suffix}", _picture) for suffix in _PICTURES},
}


def fuzzed(lab: Lab, name: str, examples: int) -> Tally:
    """Try a reader on `examples` changed files, in its own process: a crash is a loss like any other."""
    tally = Tally(f"reader of {name}: fuzzed", tried=examples)
    with lab.project() as folder:
        ended = child.start_call(folder, _fuzz, (name, examples)).end()
        tally.require(ended.code == 0, f"{ended.last_line}\n{ended.printed[-600:]}")
    return tally


def _fuzz(name: str, examples: int) -> None:
    """Change a file one to three times over, and read it; runs in the project's folder."""
    _make_inputs()
    pattern, read = READERS[name]
    path = sorted(Path.cwd().glob(pattern))[0]
    content = path.read_bytes()
    read(path)
    for number in range(examples):
        rng = random.Random(f"{name} {number}")
        spoilt = content
        for change in rng.choices(CHANGES, k=rng.randint(1, 3)):
            spoilt = change(spoilt, rng) if len(spoilt) > 1 else spoilt
        path.write_bytes(spoilt)
        with suppress(PipelineError):
            read(path)
