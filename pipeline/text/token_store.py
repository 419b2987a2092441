"""tokens.h5: the token ids of every caption and conversation, tokenized once."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, Split, Turn, read_captions
from pipeline.errors import PipelineError
from pipeline.files import hdf5
from pipeline.files.differences import differences
from pipeline.files.json_files import canonical_json
from pipeline.text.prompt import CaptionTokenizer, Prompt

logger = logging.getLogger(__name__)

FORMAT_VERSION = 3
_NUMBERS = ("token_ids", "offsets", "image_row", "truncated", "prompt_before", "prompt_after")
# Only where the prompt shows captions of similar images, and where images have conversations.
_OPTIONAL = ("prompt_similar", "prompt_separator", "turn_ids", "turn_labels", "turn_offsets", "turn_row")
_TEXTS = ("image_id", "split")
# A conversation ends before the turn that would make it longer.
_MOST_CONVERSATION_TOKENS = 1024


@dataclass(frozen=True)
class Branch:
    """The tokens of a conversation behind the image, and which of them carry loss: those of the answers."""

    ids: NDArray[np.int32]
    labeled: NDArray[np.bool_]


@dataclass(frozen=True)
class TokenizedCaptions:
    """The captions of a split, as training reads them.

    Attributes:
        prompt: the token ids around the image.
        spec: `CaptionTokenizer.spec` of the tokenizer that made the ids.
        image_ids: the images.
        captions: for each image, the token ids of its captions, without EOS.
        truncated: for each of these captions, whether it was longer: then no EOS follows its last token.
        conversations: for each image, its conversations, with the EOS of each answer that was not cut.
    """

    prompt: Prompt
    spec: dict[str, Any]
    image_ids: list[str]
    captions: list[list[NDArray[np.int32]]]
    truncated: list[list[bool]]
    conversations: list[list[Branch]]


def tokenize_captions(captions_path: Path, output: Path, tokenizer: CaptionTokenizer) -> str:
    """Tokenize captions.jsonl into `output`; captions and answers are cut to `prompt.max_caption_tokens`.

    Returns what was tokenized, in words. Raises PipelineError where there is no caption, or a caption or an
    answer has no words.
    """
    records = read_captions(captions_path)
    limit = tokenizer.params.max_caption_tokens
    ids: list[list[int]] = []
    truncated: list[bool] = []
    for record in records:
        for caption in record.captions:
            tokens = _encode(caption, tokenizer, f"{captions_path}: the caption", record.image_id)
            ids.append(tokens[:limit])
            truncated.append(len(tokens) > limit)
    if not records:
        raise PipelineError(f"{captions_path} has no captions. Fix: run `dvc repro prepare`.")
    if ids:
        end = "nothing, because it was cut" if truncated[0] else "end of sequence"
        text = tokenizer.decode_caption(ids[0])
        logger.info("first caption, the part that carries loss: %r + %s", text, end)
    if any(truncated):
        logger.warning("%d captions cut to prompt.max_caption_tokens = %d", sum(truncated), limit)
    place = f"{captions_path}: the answer"
    branches = [[_branch(c, tokenizer, place, r.image_id) for c in r.conversations] for r in records]
    _write(output, records, ids, truncated, branches, tokenizer)
    lengths = [len(tokens) for tokens in ids]
    sizes = f"{sum(lengths)} tokens, longest {max(lengths, default=0)}, {sum(truncated)} cut"
    conversations = sum(map(len, branches))
    questions = f", {conversations} conversations" if conversations else ""
    return f"{len(ids)} captions, {sizes}{questions}"


def _encode(text: str, tokenizer: CaptionTokenizer, place: str, image_id: str) -> list[int]:
    tokens = tokenizer.encode_caption(text)
    if not tokens:
        raise PipelineError(
            f"{place} {text!r:.40} of {image_id} has no words. "
            "Fix: correct it in the dataset, or set prompt.strip_period: false."
        )
    return tokens


def _branch(turns: Sequence[Turn], tokenizer: CaptionTokenizer, place: str, image_id: str) -> Branch:
    """Tokenize a conversation up to an answer that is cut, or to 1024 tokens, at least one turn."""
    limit = tokenizer.params.max_caption_tokens
    ids: list[int] = []
    labeled: list[bool] = []
    for turn in turns:
        question = tokenizer.encode_question(turn.question, follows=bool(ids))
        answer = _encode(turn.answer, tokenizer, place, image_id)
        is_cut = len(answer) > limit
        answer = answer[:limit] if is_cut else [*answer, tokenizer.prompt.eos]
        if ids and len(ids) + len(question) + len(answer) > _MOST_CONVERSATION_TOKENS:
            break
        ids += [*question, *answer]
        labeled += [False] * len(question) + [True] * len(answer)
        if is_cut:
            break
    return Branch(np.asarray(ids, np.int32), np.asarray(labeled, np.bool_))


def _write(
    path: Path,
    records: Sequence[CaptionRecord],
    ids: Sequence[Sequence[int]],
    truncated: Sequence[bool],
    branches: Sequence[Sequence[Branch]],
    tokenizer: CaptionTokenizer,
) -> None:
    prompt = tokenizer.prompt
    numbers: dict[str, NDArray[Any]] = {
        "token_ids": np.fromiter(chain.from_iterable(ids), np.int32),
        "offsets": np.cumsum([0, *map(len, ids)], dtype=np.int64),
        "image_row": np.asarray([row for row, r in enumerate(records) for _ in r.captions], np.int32),
        "truncated": np.asarray(truncated, np.uint8),
        "prompt_before": np.asarray(prompt.before, np.int32),
        "prompt_after": np.asarray(prompt.after, np.int32),
    }
    if prompt.similar:
        numbers["prompt_similar"] = np.asarray(prompt.similar, np.int32)
        numbers["prompt_separator"] = np.asarray(prompt.separator, np.int32)
    if flat := [branch for image in branches for branch in image]:
        numbers["turn_ids"] = np.concatenate([branch.ids for branch in flat])
        numbers["turn_labels"] = np.concatenate([branch.labeled for branch in flat]).astype(np.uint8)
        numbers["turn_offsets"] = np.cumsum([0, *(len(branch.ids) for branch in flat)], dtype=np.int64)
        rows = [row for row, image in enumerate(branches) for _ in image]
        numbers["turn_row"] = np.asarray(rows, np.int32)
    texts: dict[str, Sequence[str]] = {
        "image_id": [r.image_id for r in records],
        "split": [r.split for r in records],
    }
    with hdf5.new_file(path) as file:
        for name, values in numbers.items():
            file.create_dataset(name, data=values)
        for name, words in texts.items():
            length = max((len(word.encode()) for word in words), default=0)
            hdf5.write_texts(file, name, words, len(words), length)
        file.attrs["eos"] = prompt.eos
        file.attrs["format_version"] = FORMAT_VERSION
        hdf5.write_attribute(file, "tokenizer", canonical_json(tokenizer.spec))
        hdf5.write_attribute(file, "checksum", _checksum(numbers, [texts, prompt.eos, tokenizer.spec]))


def _checksum(numbers: Mapping[str, NDArray[Any]], rest: Any) -> str:
    """Compute the SHA-256 (hex) of everything in the file: its numbers and, as JSON, the rest."""
    total = hashlib.sha256(canonical_json(rest).encode())
    for name in numbers:
        total.update(np.ascontiguousarray(numbers[name]).data)
    return total.hexdigest()


def read_tokens(path: Path, split: Split) -> TokenizedCaptions:
    """Read the captions of one split.

    Raises PipelineError for a missing, foreign or damaged file, even if only one bit of it changed.
    """
    with hdf5.open_file(path, FORMAT_VERSION, "a readable token store", "tokenize") as file:
        names = [*_NUMBERS, *(name for name in _OPTIONAL if name in file)]
        numbers = {name: hdf5.read_array(file, name) for name in names}
        texts = {name: list(hdf5.read_texts(file, name)) for name in _TEXTS}
        eos = int(file.attrs["eos"])
        spec = json.loads(hdf5.read_attribute(file, "tokenizer"))
        if hdf5.read_attribute(file, "checksum") != _checksum(numbers, [texts, eos, spec]):
            raise ValueError("its checksum is wrong")
    parts = [name for name in names if name.startswith("prompt_")]
    prompt_ids = {name.removeprefix("prompt_"): tuple(numbers[name].tolist()) for name in parts}
    prompt = Prompt(eos=eos, similar_tokens=spec.get("similar_tokens", 0), **prompt_ids)
    image_ids, splits = texts["image_id"], texts["split"]
    if split not in splits:
        raise PipelineError(f"{path} has no captions of the {split} split. Fix: run `dvc repro prepare`.")
    captions: dict[int, list[NDArray[np.int32]]] = {
        row: [] for row, name in enumerate(splits) if name == split
    }
    truncated: dict[int, list[bool]] = {row: [] for row in captions}
    offsets = numbers["offsets"]
    for index, row in enumerate(numbers["image_row"]):
        if row in captions:
            captions[row].append(numbers["token_ids"][offsets[index] : offsets[index + 1]])
            truncated[row].append(bool(numbers["truncated"][index]))
    branches: dict[int, list[Branch]] = {row: [] for row in captions}
    for index, row in enumerate(numbers.get("turn_row", ())):
        if row in branches:
            part = slice(*numbers["turn_offsets"][index : index + 2])
            labeled = numbers["turn_labels"][part].astype(np.bool_)
            branches[row].append(Branch(numbers["turn_ids"][part], labeled))
    return TokenizedCaptions(
        prompt,
        spec,
        [image_ids[row] for row in captions],
        list(captions.values()),
        list(truncated.values()),
        list(branches.values()),
    )


def require_tokenizer(tokens: TokenizedCaptions, name: str, revision: str | None, digest: str) -> None:
    """Raise PipelineError unless the tokens come from the tokenizer of the language model to train."""
    expected = {**tokens.spec, "name": name, "revision": revision, "digest": digest}
    for key, value, wanted in differences(tokens.spec, expected):
        change = "files changed" if key == "digest" else f"{key} changed from {value!r} to {wanted!r}"
        raise PipelineError(
            f"The tokenizer's {change} after the captions were tokenized. Fix: run `dvc repro tokenize`."
        )
