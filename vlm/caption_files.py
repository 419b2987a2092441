"""Files of captions to score, one JSON object a line, written by anyone: nothing in them is trusted."""

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

    With `split`, only lines of that split count, as data/captions.jsonl has them. Raises PipelineError naming
    file and line for other content, an image that occurs twice or has no captions, and a caption longer than
    10,000 characters; naming the images if a caption has no words.
    """
    captions: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        image = row.get("image_id")
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
    if not captions:
        why = f'has no line with "split": "{split}"' if lines else "is empty; expected a line for each image"
        raise PipelineError(f"{path} {why}.")
    # A word has a letter or a digit.
    empty = [repr(i) for i, texts in captions.items() if not all(any(map(str.isalnum, t)) for t in texts)]
    if empty:
        raise PipelineError(f"{path}: a caption of {first_few(empty)} has no words; expected some to score.")
    return captions


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
