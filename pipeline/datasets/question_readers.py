"""The readers of datasets of questions: LLaVA's conversations and VQA v2. They read text only.

Liu et al., "Visual Instruction Tuning" (2023); Goyal et al., "Making the V in VQA Matter" (2017).
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.captions import Split
from pipeline.datasets.listing import Listing, to_split
from pipeline.datasets.text_files import parse_json, read_text, to_object, to_objects
from pipeline.errors import PipelineError, first_few

logger = logging.getLogger(__name__)

_IMAGE = "<image>"
# What LLaVA-Pretrain asks of every image. The answers are captions.
_CAPTION_REQUESTS = {
    "Create a compact narrative representing the image presented.",
    "Describe the image concisely.",
    "Give a short and clear explanation of the subsequent image.",
    "Offer a succinct explanation of the picture presented.",
    "Present a compact description of the photo's key features.",
    "Provide a brief description of the given image.",
    "Relay a brief, clear account of the picture shown.",
    "Render a clear and concise summary of the photo.",
    "Share a concise interpretation of the image provided.",
    "Summarize the visual content of the image.",
    "Write a terse but informative summary of the picture.",
}
_QUESTIONS, _ANNOTATIONS = "questions.json", "annotations.json"


def llava_file(root: Path) -> Path:
    """Return the one JSON file of a folder, *_meta.json aside. Raises PipelineError for none or several."""
    files = sorted(path for path in root.glob("*.json") if not path.name.endswith("_meta.json"))
    if len(files) != 1:
        names = first_few([file.name for file in files]) or "none"
        raise PipelineError(f"{root} needs exactly one JSON file with conversations; it holds {names}.")
    return files[0]


def read_llava(root: Path) -> Listing:
    """Read the JSON of LLaVA-Pretrain or LLaVA-Instruct; the images lie in images/ or next to the file.

    The answer to a request without words, or to one of those of LLaVA-Pretrain, is a caption. Entries
    without an image are left out, and counted in the log.
    """
    source = llava_file(root)
    listing = Listing(source, root / "images" if (root / "images").is_dir() else root)
    textual = 0
    for place, entry in to_objects(parse_json(read_text(source), source), f"{source}: "):
        if "image" not in entry:
            textual += 1
            continue
        split = to_split(entry["split"], place) if "split" in entry else None
        image_id = listing.add_image(entry["image"], split, place, again=True)
        turns = _turns(entry.get("conversations"), place)
        if len(turns) == 1 and (not turns[0][0] or turns[0][0] in _CAPTION_REQUESTS):
            listing.add_captions(image_id, [turns[0][1]], place)
        else:
            listing.add_conversation(image_id, [(*turn, "") for turn in turns], place)
    if textual:
        logger.warning("%s: %d entries without an image are left out", source, textual)
    return listing


def _turns(messages: object, place: str) -> list[tuple[str, object]]:
    """Return questions, without the image's placeholder, and answers; they must take turns."""
    said = [m for _, m in to_objects(messages, f"{place}: conversations")]
    people = [message.get("from") for message in said]
    if not said or people != ["human", "gpt"] * (len(said) // 2):
        raise PipelineError(
            f"{place}: the conversation is of {people!r:.80}, expected human, gpt, human, gpt."
        )
    texts = [message.get("value") for message in said]
    questions = []
    for text in texts[::2]:
        if not isinstance(text, str):
            raise PipelineError(f"{place}: a question is {text!r:.60}, expected text.")
        questions.append(" ".join(text.replace(_IMAGE, " ").split()))
    return list(zip(questions, texts[1::2], strict=True))


def vqa_files(root: Path) -> list[tuple[Path, Path]]:
    """Find the pairs of questions and annotations of a folder. Raises PipelineError where one lacks its pair.

    They belong together by what stands behind the last "mscoco_" in the name: `train2014_questions.json`.
    """
    found = {
        kind: {path.name.removesuffix(kind).rpartition("mscoco_")[2]: path for path in root.glob(f"*{kind}")}
        for kind in (_QUESTIONS, _ANNOTATIONS)
    }
    questions, annotations = found.values()
    if not questions or questions.keys() != annotations.keys():
        names = sorted(path.name for files in found.values() for path in files.values())
        raise PipelineError(
            f"{root} needs a *_{_ANNOTATIONS} for each *_{_QUESTIONS}; it holds "
            f"{first_few(names) or 'neither'}. "
            "Fix: put VQA v2's files there."
        )
    return [(questions[name], annotations[name]) for name in sorted(questions)]


def read_vqa(root: Path) -> Listing:
    """Read VQA v2's questions, each with its most frequent answer; its kind is VQA's `answer_type`.

    The images of train2014 are for training; half of the others, by the hash of the name, are dev, the rest
    test.
    """
    pairs = vqa_files(root)
    listing = Listing(pairs[0][0], root)
    for questions, annotations in pairs:
        asked, answered = (to_object(parse_json(read_text(p), p), str(p)) for p in (questions, annotations))
        rows = to_objects(answered.get("annotations"), f"{annotations}: annotations")
        answers = {_question_id(row, place): row for place, row in rows}
        subtype = asked.get("data_subtype")
        for place, row in to_objects(asked.get("questions"), f"{questions}: questions"):
            number, answer = row.get("image_id"), answers.get(_question_id(row, place))
            if not isinstance(number, int) or answer is None:
                raise PipelineError(f"{place} has no image_id, or no annotation in {annotations}.")
            name = f"{subtype}/COCO_{subtype}_{number:012}.jpg"
            split = _vqa_split(name) if len(pairs) > 1 else None
            image_id = listing.add_image(name, split, place, again=True)
            turn = row.get("question"), _most_frequent(answer), answer.get("answer_type")
            listing.add_conversation(image_id, [turn], place)
    return listing


def _question_id(row: Mapping[str, Any], place: str) -> int | str:
    number = row.get("question_id")
    if not isinstance(number, int | str):
        raise PipelineError(f"{place}: the question_id is {number!r:.60}, expected a number.")
    return number


def _vqa_split(name: str) -> Split:
    if name.startswith("train"):
        return "train"
    return "dev" if hashlib.sha256(name.encode()).digest()[0] % 2 else "test"


def _most_frequent(annotation: Mapping[str, Any]) -> object:
    """Return the most frequent of ten people's answers, which VQA v2 names."""
    if "multiple_choice_answer" in annotation:
        return annotation["multiple_choice_answer"]
    answers = [row.get("answer") for _, row in to_objects(annotation.get("answers"), "answers")]
    return Counter(map(str, answers)).most_common(1)[0][0] if answers else None
