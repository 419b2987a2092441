"""Every reader, fed files that were changed at random: what was written, or a sentence, and nothing else.

A reader of a file with a checksum must give exactly what was written or refuse. A text that people may edit
has none; its reader must not fail in any other way than by its sentence.
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.captions import of_split, read_captions, read_images
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError
from pipeline.evaluation.prediction_cache import read_batch
from pipeline.features.store import FeatureStore
from pipeline.files.json_files import read_json
from pipeline.images.images import describe_image, open_image
from pipeline.model.checkpoints import load_checkpoint, load_tensors, tensor_digest
from pipeline.params.loader import load_params
from pipeline.report.gallery import ImageFiles, region_answers, scored_examples
from pipeline.report.plots import epoch_curves, training_curves
from pipeline.text.token_store import read_tokens
from tests.dataset_makers import MAKERS, make_kaggle
from tests.dataset_makers import read as read_source
from tests.faults import child
from tests.faults.lab import Lab, Tally

Change = Callable[[bytes], bytes]


def _features(path: Path) -> Any:
    with FeatureStore(path) as store:
        return list(store.image_ids), list(store.sha256), store.spec, store.read(store.image_ids).tobytes()


def _tokens(path: Path) -> Any:
    read = read_tokens(path, "train")
    return read.prompt, read.spec, read.image_ids, [[c.tolist() for c in of] for of in read.captions]


def _checkpoint(path: Path) -> Any:
    read = load_checkpoint(path)
    return asdict(read.info), tensor_digest(read.projector.state_dict())


def _state(path: Path) -> Any:
    tensors, facts = load_tensors(path)
    return facts, tensor_digest(tensors)


def _blocks(path: Path) -> Any:
    """The features of all images, in a folder where this block is one of many; None where it was dropped."""
    project = next(folder for folder in path.parents if (folder / "params.yaml").exists())
    listed = [image.sha256 for image in read_images(project / "data/images.jsonl")]
    with FeatureBlocks(path.parent) as blocks:
        if blocks.note_missing(listed):
            return None
        return [values.tobytes() for values in blocks.read(listed)]


def _examples(path: Path) -> None:
    project = next(folder for folder in path.parents if (folder / "params.yaml").exists())
    files = _files(project)
    test = of_split(read_captions(project / "data/captions.jsonl"), "test")
    scored_examples(path, test, files, 2)


def _answers(path: Path) -> None:
    region_answers(path.parent, _files(path.parents[2]), 1)


def _epochs(path: Path) -> None:
    epoch_curves(path, {"bleu_4": "BLEU-4", "cider": "CIDEr-D"}, 1)


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


def _make_inputs(project: Path) -> None:
    """What the readers of others' files read: datasets in every format, images of each kind."""
    for source, make in MAKERS.items():
        make(_folder(project / f"fuzz_{source}"))
    make_kaggle(_folder(project / "fuzz_kaggle/fuzz_flickr8k"))
    pictures = _folder(project / "fuzz_pictures")
    for suffix in ("png", "jpg", "webp", "gif", "tiff", "bmp"):
        noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(noise).save(pictures / f"picture.{suffix}")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _files(project: Path) -> ImageFiles:
    listed = read_images(project / "data/images.jsonl")
    return ImageFiles({image.image_id: image for image in listed}, 1.0)


# Name -> where the file lies, its reader, whether it must give exactly what was written.
READERS: dict[str, tuple[str, Callable[[Path], Any], bool]] = {
    "features.h5": ("data/features.h5", _features, True),
    "tokens.h5": ("data/tokens.h5", _tokens, True),
    "checkpoint": ("data/checkpoints/epoch_001.safetensors", _checkpoint, True),
    "training state": (".scratch/train/*/state.safetensors", _state, True),
    "kept features": (".scratch/encode/*/*.safetensors", _blocks, True),
    "kept rows": (".scratch/evaluate/*/00000000.json", read_batch, True),
    "images.jsonl": ("data/images.jsonl", read_images, False),
    "captions.jsonl": ("data/captions.jsonl", read_captions, False),
    "params.yaml": ("params.yaml", load_params, False),
    "predictions": ("data/predictions/epoch_001_test.jsonl", _examples, False),
    "regions.jsonl": ("data/regions/regions.jsonl", _answers, False),
    "regions.json": ("metrics/regions.json", read_json, False),
    "training.csv": ("plots/training.csv", training_curves, False),
    "epochs.csv": ("plots/epochs.csv", _epochs, False),
    "dataset: Flickr8k, captions": ("fuzz_flickr8k/Flickr8k.token.txt", _dataset("flickr8k"), False),
    "dataset: Flickr8k, splits": ("fuzz_flickr8k/*trainImages.txt", _dataset("flickr8k"), False),
    "dataset: Flickr8k of Kaggle": ("fuzz_kaggle/fuzz_flickr8k/captions.txt", _dataset("flickr8k"), False),
    "dataset: Karpathy's JSON": ("fuzz_karpathy/dataset.json", _dataset("karpathy"), False),
    "dataset: JSON lines": ("fuzz_jsonl/captions.jsonl", _dataset("jsonl"), False),
    "dataset: CSV": ("fuzz_csv/captions.csv", _dataset("csv"), False),
    "image: PNG": ("fuzz_pictures/picture.png", _picture, False),
    "image: JPEG": ("fuzz_pictures/picture.jpg", _picture, False),
    "image: WebP": ("fuzz_pictures/picture.webp", _picture, False),
    "image: GIF": ("fuzz_pictures/picture.gif", _picture, False),
    "image: TIFF": ("fuzz_pictures/picture.tiff", _picture, False),
    "image: BMP": ("fuzz_pictures/picture.bmp", _picture, False),
}

_PLACE = st.floats(0, 1, exclude_max=True)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _at(content: bytes, place: float) -> int:
    return int(place * len(content))


def _flip(place: float, bit: int) -> Change:
    def change(content: bytes) -> bytes:
        spoilt = bytearray(content)
        if spoilt:
            spoilt[_at(content, place)] ^= 1 << bit
        return bytes(spoilt)

    return change


def _cut(place: float) -> Change:
    return lambda content: content[: _at(content, place)]


def _insert(place: float, new: bytes) -> Change:
    return lambda content: content[: _at(content, place)] + new + content[_at(content, place) :]


def _overwrite(place: float, new: bytes) -> Change:
    return lambda content: content[: _at(content, place)] + new + content[_at(content, place) + len(new) :]


def _remove(place: float, length: int) -> Change:
    return lambda content: content[: _at(content, place)] + content[_at(content, place) + length :]


def _value(place: float, value: Any) -> Change:
    """Another value in the place of one of the values of a JSON line, or of a YAML line."""

    def change(content: bytes) -> bytes:
        lines = content.decode(errors="replace").splitlines(keepends=True)
        number = _at(lines, place) if lines else 0  # type: ignore[arg-type]
        if not lines:
            return content
        text = json.dumps(value)
        try:
            row = json.loads(lines[number])
            key = random.Random(place).choice(sorted(row))
            lines[number] = json.dumps({**row, key: value}) + "\n"
        except (ValueError, TypeError, IndexError):
            before, colon, _ = lines[number].partition(":")
            lines[number] = f"{before}{colon} {text}\n"
        return "".join(lines).encode(errors="replace")

    return change


CHANGES = st.lists(
    st.one_of(
        st.builds(_flip, _PLACE, st.integers(0, 7)),
        st.builds(_cut, _PLACE),
        st.builds(_insert, _PLACE, st.binary(min_size=1, max_size=40)),
        st.builds(_overwrite, _PLACE, st.binary(min_size=1, max_size=40)),
        st.builds(_remove, _PLACE, st.integers(1, 200)),
        st.builds(_value, _PLACE, _JSON),
    ),
    min_size=1,
    max_size=3,
)


def fuzzed(lab: Lab, name: str, examples: int, start: int) -> Tally:
    """Try a reader on `examples` changed files, in a process of its own: a crash is a loss like any other."""
    tally = Tally(f"reader of {name}: fuzzed")
    with lab.project() as folder:
        _make_inputs(folder)
        ended = child.start_call(folder, _fuzz, (name, examples, start)).end()
        tally.check(ended.code == 0, f"exit {ended.code}: {ended.printed.strip()[-600:]}")
    tally.tried = examples
    return tally


def _fuzz(name: str, examples: int, start: int) -> None:
    """Runs in the project's folder."""
    pattern, read, exact = READERS[name]
    path = sorted(Path.cwd().glob(pattern))[0]
    content = path.read_bytes()
    written = read(path)

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=CHANGES)
    def survives(changes: list[Change]) -> None:
        spoilt = content
        for change in changes:
            spoilt = change(spoilt)
        path.write_bytes(spoilt)
        try:
            found = read(path)
        except PipelineError as error:
            said = str(error)
            assert said
            assert "Traceback" not in said
        else:
            # What is kept and damaged is passed over.
            assert not exact or found == written or found is None, f"{name} was read as {found!r:.300}"

    survives()
