"""tokens.h5: every caption's token ids, tokenized once.

C: captions of all images, in image id order; T: tokens of all captions together.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.captions import CaptionRecord, Split, read_captions
from pipeline.errors import PipelineError
from pipeline.prompt import CaptionTokenizer, Prompt
from pipeline.records import canonical_json, write_atomic

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TokenizedCaptions:
    """What training reads: for each image of a split, the token ids of its captions (without EOS)."""

    prompt: Prompt
    spec: dict[str, Any]
    image_ids: list[str]
    captions: list[list[NDArray[np.int32]]]


@dataclass(frozen=True)
class TokenizeSummary:
    """What the tokenize stage did."""

    captions: int
    tokens: int
    longest: int
    truncated: int


def tokenize_captions(
    captions_path: Path, output: Path, tokenizer: CaptionTokenizer, max_tokens: int
) -> TokenizeSummary:
    """Tokenize all captions of captions.jsonl into `output`; longer ones are cut to `max_tokens`."""
    records = read_captions(captions_path)
    ids: list[list[int]] = []
    truncated = 0
    for record in records:
        for caption in record.captions:
            tokens = tokenizer.encode_caption(caption)
            if not tokens:
                raise PipelineError(f"{captions_path}: a caption of {record.image_id} has no tokens.")
            truncated += len(tokens) > max_tokens
            ids.append(tokens[:max_tokens])
    first = tokenizer.decode_caption(ids[0])
    logger.info("first caption, the part that carries loss: %r + end of sequence", first)
    if truncated:
        logger.warning("%d captions cut to prompt.max_caption_tokens = %d", truncated, max_tokens)
    _write(output, records, ids, tokenizer)
    lengths = [len(i) for i in ids]
    return TokenizeSummary(len(ids), sum(lengths), max(lengths), truncated)


def _write(
    path: Path,
    records: Sequence[CaptionRecord],
    ids: Sequence[Sequence[int]],
    tokenizer: CaptionTokenizer,
) -> None:
    text = h5py.string_dtype("utf-8")
    rows = [row for row, record in enumerate(records) for _ in record.captions]
    prompt = tokenizer.prompt
    # An in-memory file, so that the bytes are written in one atomic step.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.create_dataset("token_ids", data=np.concatenate(ids).astype(np.int32), fletcher32=True)
        file.create_dataset("offsets", data=np.cumsum([0, *map(len, ids)], dtype=np.int64))
        file.create_dataset("image_row", data=np.asarray(rows, np.int32))
        file.create_dataset("image_id", data=[r.image_id for r in records], dtype=text)
        file.create_dataset("split", data=[r.split for r in records], dtype=text)
        file.create_dataset("prompt_before", data=np.asarray(prompt.before, np.int32))
        file.create_dataset("prompt_after", data=np.asarray(prompt.after, np.int32))
        file.attrs["eos"] = prompt.eos
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["tokenizer"] = canonical_json(tokenizer.spec.as_dict())
        file.flush()
        content: bytes = file.id.get_file_image()
    write_atomic(path, content)


def read_tokens(path: Path, split: Split) -> TokenizedCaptions:
    """Read the captions of one split. Raises PipelineError for a missing or unreadable file."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["format_version"] != FORMAT_VERSION:
                raise PipelineError(f"{path} has another format version; run `dvc repro tokenize`.")
            ids = file["token_ids"][:]
            offsets = file["offsets"][:]
            image_row = file["image_row"][:]
            image_ids = [i.decode() for i in file["image_id"]]
            splits = [s.decode() for s in file["split"]]
            prompt = Prompt(
                before=tuple(file["prompt_before"][:].tolist()),
                after=tuple(file["prompt_after"][:].tolist()),
                eos=int(file.attrs["eos"]),
            )
            spec = json.loads(file.attrs["tokenizer"])
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist; run `dvc repro tokenize`.") from error
    except (OSError, KeyError, ValueError) as error:
        raise PipelineError(
            f"{path} is no readable token store ({error}); delete it and run `dvc repro tokenize`."
        ) from error
    if split not in splits:
        raise PipelineError(f"{path} holds no captions of the {split} split; run `dvc repro prepare`.")
    captions: dict[int, list[NDArray[np.int32]]] = {
        row: [] for row, name in enumerate(splits) if name == split
    }
    for index, row in enumerate(image_row):
        if row in captions:
            captions[row].append(ids[offsets[index] : offsets[index + 1]])
    return TokenizedCaptions(prompt, spec, [image_ids[row] for row in captions], list(captions.values()))


def require_tokenizer(tokens: TokenizedCaptions, name: str, revision: str | None, digest: str) -> None:
    """PipelineError unless the tokens were made by the tokenizer of the model that is to read them."""
    for key, wanted in (("name", name), ("revision", revision), ("digest", digest)):
        if tokens.spec.get(key) != wanted:
            raise PipelineError(
                f"the tokens were made with tokenizer {key} {tokens.spec.get(key)!r}, but the language "
                f"model needs {wanted!r}; run `dvc repro tokenize`."
            )
