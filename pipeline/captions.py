"""The table that every dataset becomes: images, their captions, questions about them, their splits.

Two files hold it, both sorted by `image_id`: `images.jsonl` says where the pixels are, `captions.jsonl` what
people said and asked of them. They are separate, so that a mended caption re-encodes nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from pipeline.errors import PipelineError, shorten
from pipeline.files.json_files import read_jsonl, write_jsonl

Split = Literal["train", "dev", "test"]
# The captions of each of an image's nearest train images, the nearest first.
SimilarCaptions = Sequence[Sequence[str]]
SPLITS: tuple[Split, ...] = get_args(Split)
# What a JPEG can have at most; prepare lets no image pass that has more.
MAX_SIDE = 65_535

# HDF5 drops a NUL at the end of a text, and terminals obey other control characters: prepare refuses all.
ImageId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image file: where it is, what its bytes are, its size after EXIF orientation in pixels."""

    image_id: ImageId
    path: str
    sha256: str
    width: Side
    height: Side


@dataclass(frozen=True, slots=True)
class SceneObject:
    """What a generated scene is known to show: a shape, and its box in fractions of the image."""

    shape: str
    color: str
    size: str
    box: tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Turn:
    """A question about an image and its answer; `kind` is the kind of question, where the dataset says it."""

    question: str
    answer: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """All captions of one image, and the conversations about it.

    An image has a caption or a conversation. A single question is a conversation of one turn. `objects` is
    empty unless the dataset knows what its images show.
    """

    image_id: ImageId
    split: Split
    captions: tuple[str, ...]
    objects: tuple[SceneObject, ...] = ()
    conversations: tuple[Annotated[tuple[Turn, ...], Field(min_length=1)], ...] = ()

    def __post_init__(self) -> None:
        if not self.captions and not self.conversations:
            raise ValueError("an image needs a caption or a conversation")

    @property
    def texts(self) -> tuple[str, ...]:
        """Return what the model's text is compared with: captions, or the answer to the first question."""
        return self.captions or (self.conversations[0][0].answer,)

    @property
    def question(self) -> str | None:
        """Return the question that `texts` answer; None where they are captions."""
        return None if self.captions else self.conversations[0][0].question


Record = TypeVar("Record", ImageRecord, CaptionRecord)


def write_images(path: Path, records: Iterable[ImageRecord]) -> None:
    """Write images.jsonl, sorted by image id."""
    write_jsonl(path, (asdict(r) for r in sorted(records, key=lambda r: r.image_id)))


def write_captions(path: Path, records: Iterable[CaptionRecord]) -> None:
    """Write captions.jsonl, sorted by image id; empty `objects` and `conversations` are left out."""
    rows = [asdict(record) for record in sorted(records, key=lambda r: r.image_id)]
    optional = ("objects", "conversations")
    write_jsonl(path, ({k: v for k, v in row.items() if k not in optional or v} for row in rows))


def read_images(path: Path) -> list[ImageRecord]:
    """Read images.jsonl, in image id order."""
    return list(_read(path, ImageRecord))


def read_captions(path: Path) -> list[CaptionRecord]:
    """Read captions.jsonl, in image id order."""
    return list(_read(path, CaptionRecord))


class ImageList:
    """The images of images.jsonl, in image id order, read again for each iteration.

    Memory does not grow with their number. The constructor reads and checks the whole file; an iteration
    raises PipelineError at its end if the list is another one by then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = b""
        self._count = sum(1 for _ in self._images())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ImageRecord]:
        before = self._digest
        yield from self._images()
        if self._digest != before:
            raise PipelineError(
                f"{self._path} was changed while this command read it. Fix: run the command again; finished "
                "work is kept."
            )

    def _images(self) -> Iterator[ImageRecord]:
        """Yield the images of the file and remember their digest."""
        total = hashlib.sha256()
        for image in _read(self._path, ImageRecord):
            total.update(repr(image).encode())
            yield image
        self._digest = total.digest()


def select_split(records: Sequence[CaptionRecord], split: Split) -> list[CaptionRecord]:
    """Return the records of one split, in their order."""
    return [r for r in records if r.split == split]


def vocabulary(records: Iterable[CaptionRecord]) -> tuple[set[str], set[str]]:
    """Return the shapes and the colors of all objects that a dataset knows; empty if it knows none."""
    objects = [item for record in records for item in record.objects]
    return {item.shape for item in objects}, {item.color for item in objects}


def _read(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a file. Raises PipelineError naming the first line that does not fit."""
    adapter = TypeAdapter(kind)
    before = ""
    for number, row in read_jsonl(path):
        try:
            record = adapter.validate_python(row)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(map(str, fault["loc"])) or "the line"
            raise PipelineError(
                f"{path}:{number} is not a record of images and captions: {key} is {shorten(fault['input'])} "
                f"({fault['msg']}). Fix: pass the file that `prepare` wrote; if this is it, run `dvc repro "
                "prepare`."
            ) from error
        if before and before >= record.image_id:
            raise PipelineError(
                f"{path} is not sorted by image_id, or has an image twice: {before!r} comes before "
                f"{record.image_id!r}. Fix: run `dvc repro prepare`."
            )
        before = record.image_id
        yield record
