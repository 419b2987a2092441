"""The images, captions and splits that a dataset's files list, with the checks that every format needs.

A place is where something was read, `file:line`; messages name it.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.captions import SPLITS, CaptionRecord, Split, Turn
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)

_MAX_CAPTION_CHARACTERS = 2000
# Of answers, which may be essays, and of the turns of a conversation.
_MAX_ANSWER_CHARACTERS = 10_000
_MAX_TURNS = 100
# Without splits in the files, dev and test have at most so many images, as many as Karpathy's COCO.
_MOST_HELD_OUT = 5000
# Of the control characters, text holds only those that separate words: COCO's captions hold newlines.
# Lone surrogates (possible in JSON as \ud800) cannot be written as UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NOT_A_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff\\\\]")


class Listing:
    """Images by the names that a dataset's files give them; the image files themselves are not opened.

    Attributes:
        source: the file with the captions.
        folder: image ids are relative to it.
        captions: captions of each image, in the order of the file.
        conversations: conversations about each image, in the order of the file.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.captions: dict[str, list[str]] = {}
        self.conversations: dict[str, list[tuple[Turn, ...]]] = {}
        self._splits: dict[str, Split | None] = {}

    def add_image(self, name: object, split: Split | None, place: str, *, again: bool = False) -> str:
        """Add an image and return its id.

        Args:
            name: path relative to the folder, inside it.
            split: None where the file names no split.
            place: where the name was read.
            again: allow an image that was added before, in the same split.
        """
        path = PurePosixPath(name if isinstance(name, str) else "..")
        image_id, is_inside = str(path), not path.is_absolute() and ".." not in path.parts
        # One file, one name: "./x.jpg" and "a//x.jpg" would be second names of "x.jpg" and "a/x.jpg".
        if not is_inside or image_id != name or image_id == "." or _NOT_A_NAME.search(image_id):
            raise PipelineError(
                f"{place}: the image {name!r:.100} is not a path inside the image folder. "
                "Use names like x.jpg or folder/x.jpg."
            )
        if image_id not in self._splits:
            self._splits[image_id], self.captions[image_id] = split, []
            self.conversations[image_id] = []
        elif (before := self._splits[image_id]) != split:
            raise PipelineError(
                f"{place}: the image {name!r} is in the split {split} here and in {before} above. "
                "Fix: keep it in one split."
            )
        elif not again:
            raise PipelineError(f"{place}: the image {name!r} is listed twice. Fix: remove one entry.")
        return image_id

    def add_captions(self, image_id: str, texts: object, place: str) -> None:
        """Add captions, at least one, to an image that was added before."""
        place = f"{place} ({image_id})"
        if not isinstance(texts, list):
            raise PipelineError(f"{place}: captions are {texts!r:.60}, expected a list of text.")
        if not texts:
            raise PipelineError(f"{place}: the image has no caption. Fix: write one or remove the entry.")
        self.captions[image_id] += [clean_caption(text, place) for text in texts]

    def add_conversation(
        self, image_id: str, turns: Sequence[tuple[object, object, object]], place: str
    ) -> None:
        """Add a conversation, `(question, answer, kind)` for each turn, to an image that was added before."""
        place = f"{place} ({image_id})"
        if not 0 < len(turns) <= _MAX_TURNS:
            raise PipelineError(
                f"{place}: the conversation has {len(turns)} turns; 1 to {_MAX_TURNS} are allowed."
            )
        cleaned = [
            Turn(
                clean_caption(question, place, "question"),
                clean_caption(answer, place, "answer", _MAX_ANSWER_CHARACTERS),
                clean_caption(kind, place, "kind of question") if kind else "",
            )
            for question, answer, kind in turns
        ]
        self.conversations[image_id].append(tuple(cleaned))

    def record(self, image_id: str, split: Split) -> CaptionRecord:
        """Return all that is known of an image."""
        captions, conversations = tuple(self.captions[image_id]), tuple(self.conversations[image_id])
        return CaptionRecord(image_id, split, captions, conversations=conversations)

    @property
    def has_splits(self) -> bool:
        """Say whether the file names splits."""
        return any(self._splits.values())

    def splits(self) -> dict[str, Split]:
        """The split of each image: the file's, or 80/10/10 by the hash of the name if it has no splits.

        Dev and test then have 5,000 images at most.
        """
        known = {image_id: split for image_id, split in self._splits.items() if split is not None}
        if len(known) == len(self._splits):
            return known
        if known:
            without = next(image_id for image_id in self._splits if image_id not in known)
            raise PipelineError(
                f"{self.source} gives {without!r} no split, but others. Fix: give all a split, or none."
            )
        logger.info("%s has no splits: made from hashes of the names (80/10/10)", self.source)
        # Equal on every machine, in whatever order the images are listed.
        ordered = sorted(self._splits, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
        share = min(max(1, len(ordered) // 10), _MOST_HELD_OUT)
        return {
            image_id: "dev" if place < share else "test" if place < 2 * share else "train"
            for place, image_id in enumerate(ordered)
        }


def to_split(value: object, place: str, names: Mapping[str, Split] | None = None) -> Split:
    """The split that a dataset calls `value`; `names` maps its words, by default train, dev and test."""
    known: Mapping[str, Split] = {split: split for split in SPLITS} if names is None else names
    if not isinstance(value, str) or value not in known:
        raise PipelineError(f"{place}: unknown split {value!r:.60}. Use one of: {', '.join(known)}.")
    return known[value]


def clean_caption(
    text: object, place: str, noun: str = "caption", limit: int = _MAX_CAPTION_CHARACTERS
) -> str:
    """A caption (or a `noun`) with its white space collapsed; PipelineError if it cannot be trained on."""
    article = "an" if noun == "answer" else "a"
    if not isinstance(text, str):
        raise PipelineError(f"{place}: {article} {noun} is {text!r:.60}, expected text.")
    if control := _NOT_TEXT.search(text):
        raise PipelineError(
            f"{place}: the {noun} {text!r:.60} holds the control character {control.group()!r}. "
            "Fix: remove it."
        )
    words = " ".join(text.split())
    if not words:
        raise PipelineError(f"{place}: {article} {noun} is empty. Fix: write one or remove the entry.")
    if len(words) > limit:
        raise PipelineError(
            f"{place}: the {noun} {words!r:.40}... has {len(words)} characters; at most {limit} are allowed."
        )
    return words
