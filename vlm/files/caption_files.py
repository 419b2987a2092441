"""Files of captions to score, one JSON object a line, written by anyone: nothing in them is trusted."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import PipelineError, first_few
from pipeline.files.json_files import read_jsonl

logger = logging.getLogger(__name__)

# No caption is longer; scoring compares every word with every word of each reference.
_MOST_CHARACTERS = 10_000
_EXCHANGED = "; are predictions and references exchanged?"


def read_caption_file(
    path: Path,
    key: Literal["caption", "captions"],
    split: str | None = None,
    references: Iterable[str] | None = None,
    allow_empty: bool = False,
) -> dict[str, list[str]]:
    """Read the captions of each image by its id, from lines `{"image_id", "caption"}` or `"captions"`.

    With `split`, only lines of that split count, as data/captions.jsonl has them. With `references`, ids of
    images, lines of `vlm caption` count too, if their path names one of these images. Raises PipelineError
    naming file and line for other content, a caption of a part of an image, an image that occurs twice or has
    no captions, and too long a caption; naming the images if a caption has no words, unless `allow_empty`.
    """
    captions: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    others = []
    ids_by_name = defaultdict(list)
    for image_id in references or ():
        ids_by_name[Path(image_id).name].append(image_id)
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        image = row.get("image_id")
        if row.get("region", "full") != "full":
            raise PipelineError(
                f"{where}: the caption is of the region {row['region']!r:.60}; expected captions of whole "
                "images. Fix: caption them without --ask, --region and --box."
            )
        if references is not None and image is None and isinstance(row.get("path"), str):
            image = _same_image(row["path"], ids_by_name[Path(row["path"]).name])
            if image is None:
                others.append(row["path"])
                continue
        if not isinstance(image, str | int) or isinstance(image, bool) or image == "":
            raise PipelineError(
                f'{where}: image_id is {image!r:.60}; expected a line {{"image_id": …, "{key}": …}}.'
            )
        image = str(image)  # COCO's tools write ids as numbers
        if image in lines:
            raise PipelineError(f"{where}: image {image!r} occurs twice, first in line {lines[image]}.")
        lines[image] = number
        if split is None or row.get("split") == split:
            captions[image] = _captions(row.get(key), key, where)
    if others and not lines:
        raise PipelineError(
            f"{path}: no image of the references has the file name of {first_few(others, 3)}. Fix: pass the "
            "references of these images."
        )
    if others:
        logger.warning(
            "Note: captions of other images, which are left out: %d (%s).", len(others), first_few(others, 3)
        )
    if not captions:
        why = f'has no line with "split": "{split}"' if lines else "is empty; expected a line for each image"
        raise PipelineError(f"{path} {why}.")
    # A word has a letter or a digit.
    empty = [repr(i) for i, texts in captions.items() if not all(any(map(str.isalnum, t)) for t in texts)]
    if empty and not allow_empty:
        raise PipelineError(f"{path}: a caption of {first_few(empty)} has no words; expected some to score.")
    return captions


def _same_image(path: str, ids: list[str]) -> str | None:
    """Find the one image id of a file name that goes with a path, whose last folders may tell which."""
    alike = [i for i in ids if f"/{path}".endswith(f"/{i}") or f"/{i}".endswith(f"/{path}")]
    matches = alike or ids
    return matches[0] if len(matches) == 1 else None


def _captions(value: Any, key: str, where: str) -> list[str]:
    if key == "caption":
        value = [value]
    elif not isinstance(value, list) or not value:
        raise PipelineError(f"{where}: captions is {value!r:.60}; expected a list of captions{_EXCHANGED}")
    for caption in value:
        if not isinstance(caption, str):
            hint = _EXCHANGED if caption is None else "."
            raise PipelineError(f"{where}: a caption is {caption!r:.60}; expected text{hint}")
        if len(caption) > _MOST_CHARACTERS:
            raise PipelineError(
                f"{where}: a caption has {len(caption):,} characters; allowed: {_MOST_CHARACTERS:,}."
            )
    return list(value)
