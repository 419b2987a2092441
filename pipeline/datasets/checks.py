"""What holds for every caption dataset, whatever its format: its text, captions, names and splits.

A place is where something was read, `file:line`, for the message about it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.captions import SPLITS, Split
from pipeline.errors import PipelineError

_MAX_CAPTION_CHARACTERS = 2000
# Of the control characters, only what separates words is text: COCO's own captions hold newlines.
# Lone surrogates (possible in JSON as \ud800) cannot be written as UTF-8.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NO_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a dataset's own files say, before its images are looked for.

    `splits` holds the images in use; None where the dataset has no splits, then all images are.
    """

    source: Path  # the file with the captions
    folder: Path  # what image ids are relative to
    captions: dict[str, list[str]]
    splits: dict[str, Split] | None


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist; put it there or change data.root.") from error
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}:{line} is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8."
        ) from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield `(place, line)` for each line that is not blank."""
    # Not splitlines(), which also splits at characters that captions may hold (U+2028, ...).
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.removesuffix("\r")


def parse_json(text: str, path: Path, first_line: int = 1) -> Any:
    """The value of a JSON text that begins at `first_line` of `path`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise PipelineError(f"{path}:{line} is not valid JSON: {error.msg}.") from error
    except RecursionError as error:
        raise PipelineError(f"{path}:{first_line} is not valid JSON: nested too deep.") from error
    except ValueError as error:  # a number of thousands of digits
        raise PipelineError(f"{path}:{first_line} is not usable JSON: {error}.") from error


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


def clean_captions(texts: object, place: str) -> list[str]:
    """The captions of one image, at least one."""
    if not isinstance(texts, list):
        raise PipelineError(f"{place}: captions are {texts!r:.60}, expected a list of text.")
    if not texts:
        raise PipelineError(f"{place}: the image has no caption; write one or remove the entry.")
    return [clean_caption(text, place) for text in texts]


def check_image_id(name: object, place: str) -> str:
    """The name of an image relative to the image folder, which it cannot lead out of."""
    if not isinstance(name, str) or not name:
        raise PipelineError(f"{place}: the image is {name!r:.60}, expected the name of an image file.")
    path = PurePosixPath(name)
    # One file, one name: "./x.jpg" and "a//x.jpg" would be second names of "x.jpg" and "a/x.jpg".
    plain = not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
    if not plain or "\\" in name or _NO_NAME.search(name):
        raise PipelineError(
            f"{place}: the image {name!r:.100} is no plain path inside the image folder; "
            "allowed: names like x.jpg or folder/x.jpg, with forward slashes."
        )
    return name


def to_split(value: object, place: str, names: Mapping[str, Split] | None = None) -> Split:
    """The split that a dataset calls `value`; `names` maps its words, else train, dev and test."""
    known: Mapping[str, Split] = {split: split for split in SPLITS} if names is None else names
    if not isinstance(value, str) or value not in known:
        raise PipelineError(f"{place}: the split is {value!r:.60}; allowed: {', '.join(known)}.")
    return known[value]


def check_new(image_id: str, split: Split | None, seen: Mapping[str, Split | None], place: str) -> None:
    """Refuse an image that was listed before, in this split or another."""
    if image_id not in seen:
        return
    before = seen[image_id]
    if before != split:
        raise PipelineError(
            f"{place}: the image {image_id!r} is in the split {split} here and in {before} above; "
            "an image may be in one split only."
        )
    raise PipelineError(f"{place}: the image {image_id!r} is listed a second time; remove one entry.")


def split_by_hash(image_ids: Iterable[str]) -> dict[str, Split]:
    """A split of one's own, 80/10/10: by the hash of the name, so equal on every machine."""
    ordered = sorted(image_ids, key=lambda i: (hashlib.sha256(i.encode()).digest(), i))
    share = max(1, len(ordered) // 10)
    splits: dict[str, Split] = {}
    for position, image_id in enumerate(ordered):
        splits[image_id] = "dev" if position < share else "test" if position < 2 * share else "train"
    return splits
