"""Files of captions to score, one JSON object a line: anyone's, so nothing in them is taken on trust."""

from pathlib import Path
from typing import Any, Literal

from pipeline.errors import PipelineError, first_few
from pipeline.files.json_files import read_jsonl

# No caption is longer; scoring compares every word with every word of each reference.
_MOST_CHARACTERS = 10_000


def read_caption_file(
    path: Path, key: Literal["caption", "captions"], split: str | None = None
) -> dict[str, list[str]]:
    """Read the captions of each image by its id, from lines `{"image_id", "caption"}` or `"captions"`.

    With `split`, of lines that have a `split` as in data/captions.jsonl, take those of that one. Raises
    PipelineError naming file and line for other content, an image that comes twice or has no captions, and
    a caption longer than 10,000 characters; naming the images of which a caption has no words.
    """
    found: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        image = row.get("image_id")
        if not isinstance(image, str | int) or isinstance(image, bool) or image == "":
            raise PipelineError(
                f'{where}: image_id is {image!r:.60}; expected a line {{"image_id": …, "{key}": …}}.'
            )
        # COCO's tools write ids as numbers.
        image = str(image)
        if image in lines:
            raise PipelineError(f"{where}: image {image!r} is there twice, first in line {lines[image]}.")
        lines[image] = number
        if split is None or row.get("split") == split:
            found[image] = _captions(row.get(key), key, where)
    if not lines:
        raise PipelineError(f"{path} is empty; expected a line for each image.")
    if not found:
        raise PipelineError(
            f'{path} has no line with "split": "{split}"; leave out --split, or name another.'
        )
    # A word has a letter or a digit.
    empty = [image for image, texts in found.items() if not all(any(map(str.isalnum, t)) for t in texts)]
    if empty:
        named = first_few(list(map(repr, empty)))
        raise PipelineError(
            f"{path}: a caption of {named} has no words; every image needs some to be scored."
        )
    return found


def _captions(value: Any, key: str, where: str) -> list[str]:
    if key == "caption":
        value = [value]
    elif not isinstance(value, list) or not value:
        raise PipelineError(f"{where}: captions is {value!r:.60}; expected a list of captions.")
    for caption in value:
        if not isinstance(caption, str):
            hint = "; are predictions and references exchanged?" if caption is None else "."
            raise PipelineError(f"{where}: a caption is {caption!r:.60}; expected text{hint}")
        if len(caption) > _MOST_CHARACTERS:
            raise PipelineError(
                f"{where}: a caption has {len(caption):,} characters; allowed: {_MOST_CHARACTERS:,}."
            )
    return list(value)
