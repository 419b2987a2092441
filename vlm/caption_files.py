"""Files of captions to score, one JSON object a line: anyone's, so nothing in them is taken on trust."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files.json_files import read_jsonl

# No caption is longer; scoring compares every word with every word of each reference.
_MOST_CHARACTERS = 10_000
_NAMED = 5  # so many images are named; the rest is counted


def read_predictions(path: Path) -> dict[str, str]:
    """Captions by image id from lines `{"image_id", "caption"}`.

    Raises PipelineError naming file and line for other content, an image that comes twice, and a caption
    longer than 10,000 characters; naming the images whose caption has no words.
    """
    captions = {image: _caption(row.get("caption"), where) for where, image, row in _rows(path, "caption")}
    _require_words(path, {image: [caption] for image, caption in captions.items()})
    return captions


def read_references(path: Path, split: str | None = None) -> dict[str, list[str]]:
    """All captions of each image by its id, from lines `{"image_id", "captions"}`.

    With `split`, of lines that have a `split` as in data/captions.jsonl, those of that one. Raises
    PipelineError as `read_predictions` does, for an image without captions, and for a split without images.
    """
    references = {}
    for where, image, row in _rows(path, "captions"):
        if split is not None and row.get("split") != split:
            continue
        captions = row.get("captions")
        if not isinstance(captions, list) or not captions:
            raise PipelineError(f"{where}: captions is {captions!r:.60}; expected a list of captions.")
        references[image] = [_caption(caption, where) for caption in captions]
    if not references:
        raise PipelineError(
            f'{path} has no line with "split": "{split}"; leave out --split, or name another.'
        )
    _require_words(path, references)
    return references


def _require_words(path: Path, captions: Mapping[str, Sequence[str]]) -> None:
    """PipelineError naming the images of which a caption has no letter and no digit."""
    empty = [image for image, of_image in captions.items() if not all(map(_has_words, of_image))]
    if empty:
        named = ", ".join(map(repr, empty[:_NAMED]))
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        raise PipelineError(
            f"{path}: a caption of {named}{more} has no words; every image needs some to be scored."
        )


def _has_words(caption: str) -> bool:
    return any(map(str.isalnum, caption))


def _rows(path: Path, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, image id and content of each line."""
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
        yield where, image, row
    if not lines:
        raise PipelineError(f"{path} is empty; expected a line for each image.")


def _caption(value: object, where: str) -> str:
    if not isinstance(value, str):
        hint = "; are predictions and references exchanged?" if value is None else "."
        raise PipelineError(f"{where}: a caption is {value!r:.60}; expected text{hint}")
    if len(value) > _MOST_CHARACTERS:
        raise PipelineError(
            f"{where}: a caption has {len(value):,} characters; at most {_MOST_CHARACTERS:,} are scored."
        )
    return value
