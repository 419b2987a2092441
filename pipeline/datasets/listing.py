"""What a dataset's own files say of its images. What holds for every format is checked here.

A place is where something was read, `file:line`, for the message about it.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pipeline.captions import SPLITS, Split
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

_MAX_CAPTION_CHARACTERS = 2000
# Of the control characters, only what separates words is text: COCO's own captions hold newlines.
# Lone surrogates (possible in JSON as \ud800) cannot be written as UTF-8.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NO_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Listing:
    """The images that a dataset's files name, with their captions and splits, before they are looked for.

    Attributes:
        source: the file with the captions.
        folder: what image ids are relative to.
        captions: those of each image, in the order in which they were read.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.captions: dict[str, list[str]] = {}
        self._splits: dict[str, Split | None] = {}

    def add_image(self, name: object, split: Split | None, place: str, *, again: bool = False) -> str:
        """Add an image, by its name relative to the folder, and return its id.

        Args:
            name: what stands in the file; it cannot lead out of the folder.
            split: None where the file names no split.
            place: where it was read.
            again: it may have been added before, with the same split.
        """
        if not isinstance(name, str) or not _is_plain(name):
            raise PipelineError(
                f"{place}: the image {name!r:.100} is no plain path inside the image folder; "
                "allowed: names like x.jpg or folder/x.jpg, with forward slashes."
            )
        if name not in self._splits:
            self._splits[name], self.captions[name] = split, []
        elif (before := self._splits[name]) != split:
            raise PipelineError(
                f"{place}: the image {name!r} is in the split {split} here and in {before} above; "
                "an image may be in one split only."
            )
        elif not again:
            raise PipelineError(f"{place}: the image {name!r} is listed a second time; remove one entry.")
        return name

    def add_captions(self, image_id: str, texts: object, place: str) -> None:
        """Add captions of an image that was added before; at least one."""
        place = f"{place} ({image_id})"
        if not isinstance(texts, list):
            raise PipelineError(f"{place}: captions are {texts!r:.60}, expected a list of text.")
        if not texts:
            raise PipelineError(f"{place}: the image has no caption; write one or remove the entry.")
        self.captions[image_id] += [clean_caption(text, place) for text in texts]

    def splits(self) -> dict[str, Split]:
        """The split of each image: the file's, or where it has none, 80/10/10 by the hash of the name."""
        known = {image_id: split for image_id, split in self._splits.items() if split is not None}
        if len(known) == len(self._splits):
            return known
        if known:
            without = next(image_id for image_id in self._splits if image_id not in known)
            raise PipelineError(
                f"{self.source} gives some images a split but not {without!r}; give all images one, or none."
            )
        logger.info("%s has no splits: made from hashes of the names (80/10/10)", self.source)
        return _split_by_hash(self._splits)


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    # One file, one name: "./x.jpg" and "a//x.jpg" would be second names of "x.jpg" and "a/x.jpg".
    is_inside = not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
    return is_inside and "\\" not in name and not _NO_NAME.search(name)


def to_split(value: object, place: str, names: Mapping[str, Split] | None = None) -> Split:
    """The split that a dataset calls `value`; `names` maps its words, else train, dev and test."""
    known: Mapping[str, Split] = {split: split for split in SPLITS} if names is None else names
    if not isinstance(value, str) or value not in known:
        raise PipelineError(f"{place}: the split is {value!r:.60}; allowed: {', '.join(known)}.")
    return known[value]


def clean_caption(text: object, place: str) -> str:
    """A caption with its blanks collapsed, checked to be something that can be trained on."""
    if not isinstance(text, str):
        raise PipelineError(f"{place}: a caption is {text!r:.60}, expected text.")
    bad = _NO_TEXT.search(text)
    if bad:
        raise PipelineError(
            f"{place}: the caption {text!r:.60} holds the control character {bad.group()!r}; remove it."
        )
    caption = " ".join(text.split())
    if not caption:
        raise PipelineError(f"{place}: a caption is empty; write one or remove the entry.")
    if len(caption) > _MAX_CAPTION_CHARACTERS:
        raise PipelineError(
            f"{place}: the caption {caption!r:.40}... has {len(caption)} characters; "
            f"allowed: at most {_MAX_CAPTION_CHARACTERS}."
        )
    return caption


def _split_by_hash(image_ids: Iterable[str]) -> dict[str, Split]:
    """Equal on every machine, whatever the order of the images."""
    ordered = sorted(image_ids, key=lambda i: (hashlib.sha256(i.encode()).digest(), i))
    share = max(1, len(ordered) // 10)
    splits: dict[str, Split] = {}
    for position, image_id in enumerate(ordered):
        splits[image_id] = "dev" if position < share else "test" if position < 2 * share else "train"
    return splits
