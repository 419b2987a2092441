"""The table that every caption dataset becomes: images, their captions, their splits.

Two files hold it (kept apart, so that a mended caption re-encodes nothing), both sorted by
`image_id`: `images.jsonl` says where the pixels are, `captions.jsonl` what people said of them.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import PipelineError
from pipeline.files.json_files import read_jsonl, write_jsonl

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# What a JPEG can have at most; prepare lets no image pass that has more.
MAX_SIDE = 65_535
# HDF5 drops a NUL at the end of a text, and terminals obey the others; prepare lets none of them pass either.
_NO_ID = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image file: where it is, what its bytes are, its size after EXIF orientation in pixels."""

    image_id: str
    path: str
    sha256: str
    width: int
    height: int

    def __post_init__(self) -> None:
        _check_id(self.image_id)
        for name in ("path", "sha256"):
            _check_text(name, getattr(self, name))
        for name in ("width", "height"):
            side = getattr(self, name)
            if type(side) is not int or not 1 <= side <= MAX_SIDE:
                raise TypeError(f"{name} is {side!r:.40}, expected 1 to {MAX_SIDE} pixels")


@dataclass(frozen=True, slots=True)
class SceneObject:
    """What a generated scene is known to show: a shape, and its box in fractions of the image."""

    shape: str
    color: str
    size: str
    box: tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """All captions of one image. `objects` is empty unless the dataset knows what its images show."""

    image_id: str
    split: Split
    captions: tuple[str, ...]
    objects: tuple[SceneObject, ...] = ()


def write_images(path: Path, records: Iterable[ImageRecord]) -> None:
    """Write images.jsonl, sorted by image id."""
    write_jsonl(path, (asdict(r) for r in sorted(records, key=lambda r: r.image_id)))


def write_captions(path: Path, records: Iterable[CaptionRecord]) -> None:
    """Write captions.jsonl, sorted by image id; `objects` is left out where there are none."""
    rows = []
    for record in sorted(records, key=lambda r: r.image_id):
        row = asdict(record)
        if not record.objects:
            del row["objects"]
        rows.append(row)
    write_jsonl(path, rows)


def read_images(path: Path) -> list[ImageRecord]:
    """Read images.jsonl, in image id order."""
    return list(_iterate_images(path))


class ImageList:
    """The images of images.jsonl, in image id order, read anew each time that they are gone through.

    So memory does not grow with their number. Made, it has read and checked the whole file once; each time
    that it is gone through to the end it must be the list of then, else PipelineError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        total = hashlib.sha256()
        for image in _iterate_images(path):
            self._count += 1
            total.update(repr(image).encode())
        self._digest = total.digest()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ImageRecord]:
        total = hashlib.sha256()
        for image in _iterate_images(self._path):
            total.update(repr(image).encode())
            yield image
        if total.digest() != self._digest:
            raise PipelineError(
                f"{self._path} was changed while this command read it; run the command again: finished work "
                "is kept."
            )


def _iterate_images(path: Path) -> Iterator[ImageRecord]:
    before: str | None = None
    for number, row in read_jsonl(path):
        try:
            record = ImageRecord(**row)
        except TypeError as error:
            raise PipelineError(f"{path}:{number} is no image record: {error}.") from error
        if before is not None:
            _check_order(path, [before, record.image_id])
        before = record.image_id
        yield record


def read_captions(path: Path) -> list[CaptionRecord]:
    """Read captions.jsonl, in image id order."""
    records = []
    for number, row in read_jsonl(path):
        try:
            records.append(_caption_record(**row))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PipelineError(f"{path}:{number} is no caption record: {error}.") from error
    _check_order(path, [r.image_id for r in records])
    return records


def _caption_record(
    image_id: Any, split: Any, captions: Any, objects: Sequence[dict[str, Any]] = ()
) -> CaptionRecord:
    """A record from JSON values. Raises TypeError, KeyError, ValueError or OverflowError for what is none."""
    _check_id(image_id)
    if split not in SPLITS:
        raise TypeError(f"split is {split!r:.40}, expected one of {', '.join(SPLITS)}")
    if not isinstance(captions, list) or not captions:
        raise TypeError(f"captions are {captions!r:.40}, expected a list of text, not empty")
    for caption in captions:
        _check_text("a caption", caption)
    shown = []
    for item in objects:
        left, top, right, bottom = map(float, item["box"])
        for name in ("shape", "color", "size"):
            _check_text(name, item[name])
        shown.append(SceneObject(**{**item, "box": (left, top, right, bottom)}))
    return CaptionRecord(image_id, split, tuple(captions), tuple(shown))


def _check_id(image_id: object) -> None:
    _check_text("image_id", image_id)
    if _NO_ID.search(str(image_id)):
        raise TypeError(f"image_id {image_id!r:.60} holds a control character")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.40}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"{name} holds half a character ({error})") from error


def of_split(records: Sequence[CaptionRecord], split: Split) -> list[CaptionRecord]:
    """The records of one split, in their order."""
    return [r for r in records if r.split == split]


def vocabulary(records: Iterable[CaptionRecord]) -> tuple[set[str], set[str]]:
    """The shapes and the colours of all objects that a dataset says it shows; empty if it says none."""
    objects = [item for record in records for item in record.objects]
    return {item.shape for item in objects}, {item.color for item in objects}


def _check_order(path: Path, ids: Sequence[str]) -> None:
    for before, after in pairwise(ids):
        if before >= after:
            raise PipelineError(
                f"{path} is not sorted by image_id or repeats one: {before!r} comes before {after!r}; "
                "run `dvc repro prepare` to write it anew."
            )
