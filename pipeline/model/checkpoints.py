"""What training saves: a small, self-describing file for each epoch, and the state to resume from.

Both are safetensors, written atomically, with one JSON string as metadata (several metadata keys are
written in random order, and DVC compares bytes). The format has no checksum, so the facts carry one, of
tensors and facts together. Nothing is ever unpickled.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pipeline.errors import PipelineError, first_few
from pipeline.files.differences import differences
from pipeline.files.json_files import canonical_json, digest, write_atomic
from pipeline.files.unchanged_file import UnchangedFile
from pipeline.model.adapters import split_state
from pipeline.model.projector import Projector
from pipeline.params.schema import EncoderParams, LanguageModelParams, PromptParams

FORMAT_VERSION = 3
_METADATA_KEY = "vlm"
_CHECKSUM = "sha256"
_BEST = "best.safetensors"
_CHECKPOINT_NAME = re.compile(r"epoch_(\d{3,})\.safetensors")


@dataclass(frozen=True)
class CheckpointInfo:
    """The facts that a checkpoint carries beside the trained weights.

    `encoder`, `tokenizer` and `language_model` are the specs of the frozen parts, so that a checkpoint
    alone says what it must be used with; `training` is the fingerprint of everything that led to it.
    `features` is the digest of the features of the images that it was trained on (`features_digest`),
    `tokens` that of the prompt's and their captions' ids.
    `longest_caption` counts the tokens of the longest caption that it was trained on, its end included.
    `lora` says how the adapters are built, None where there are none.
    """

    epoch: int
    encoder: dict[str, Any]
    tokenizer: dict[str, Any]
    language_model: dict[str, Any]
    hidden_size: int
    width_out: int
    train: dict[str, Any]
    training: str
    features: str
    tokens: str
    longest_caption: int
    lora: dict[str, Any] | None = None

    def encoder_params(self) -> EncoderParams:
        """How to load the encoder that the facts name."""
        facts = self.encoder
        return EncoderParams(facts["name"], facts["revision"], facts["layer"], facts["tokens"], facts["grid"])

    def language_model_params(self) -> LanguageModelParams:
        """How to load the language model that the facts name."""
        facts = self.language_model
        return LanguageModelParams(
            facts["name"], facts["revision"], facts["quantization"], facts["double_quantization"]
        )

    def prompt_params(self) -> PromptParams:
        """The prompt that the facts tell of."""
        facts = self.tokenizer
        return PromptParams(
            facts["instruction"], facts["lowercase"], facts["strip_period"], facts["max_caption_tokens"]
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: a projector in evaluation mode, the adapters' tensors, the facts.

    `content` holds the bytes of `file`, all that follows from a checkpoint follows from these.
    """

    projector: Projector
    adapters: dict[str, Tensor]
    info: CheckpointInfo
    file: UnchangedFile
    content: bytes = field(repr=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts as one safetensors file, atomically and with stable bytes."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    checked = {**facts, _CHECKSUM: _checksum(contiguous, facts)}
    write_atomic(path, save(contiguous, {_METADATA_KEY: canonical_json(checked)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises PipelineError for a missing, foreign or damaged file, be it by one bit.
    """
    return _parse_tensors(*UnchangedFile.read(path))


def _parse_tensors(file: UnchangedFile, content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        # The library gives the metadata of files alone, and this one is opened once.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts: dict[str, Any] = json.loads(header["__metadata__"][_METADATA_KEY])
        checksum = facts.pop(_CHECKSUM)
        tensors = load(content)
        if checksum != _checksum(tensors, facts):
            raise ValueError("its checksum is wrong")
    # TypeError: metadata that is JSON and no object, tensors of types that have no checksum here.
    except (SafetensorError, KeyError, ValueError, RecursionError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{file.path} is no checkpoint of this project or is damaged ({error}); name another, or run "
            "`dvc repro`."
        ) from error
    return tensors, facts


def _checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    return digest([tensor_digest(tensors), facts])


def save_checkpoint(path: Path, trained: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Write the tensors of projector and adapters with the facts about them."""
    save_tensors(path, trained, {"format_version": FORMAT_VERSION, **asdict(info)})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises PipelineError for an unreadable file or a projector of other shapes than the facts say. What
    adapters must look like only the language model knows: `Adapters.load_state_dict` checks them.
    """
    file, content = UnchangedFile.read(path)
    tensors, facts = _parse_tensors(file, content)
    if facts.pop("format_version", None) != FORMAT_VERSION:
        raise PipelineError(f"{path} has another format version; train anew with `dvc repro train`.")
    try:
        info = CheckpointInfo(**facts)
        shape = info.encoder["width"], info.hidden_size, info.width_out
        with torch.device("meta"):  # facts alone must not make it take memory
            expected = {key: tuple(value.shape) for key, value in Projector(*shape).state_dict().items()}
    except (TypeError, KeyError, RuntimeError) as error:
        raise PipelineError(f"{path} is no checkpoint of this project: {error}.") from error
    weights, adapters = split_state(tensors) if info.lora else (tensors, {})
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if found != expected:
        raise PipelineError(f"{path} holds tensors {found}, but its facts call for {expected}.")
    projector = Projector(*shape)
    projector.load_state_dict(weights)
    return Checkpoint(projector.eval(), adapters, info, file, content)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means: a file, its name without `.safetensors`, or a folder.

    Of a folder it is `best.safetensors`, which evaluation writes. Raises PipelineError where there is none.
    """
    if path.is_dir():
        best = path / _BEST
        if not best.is_file():
            held = sorted(file.name for file in path.glob("*.safetensors"))
            raise PipelineError(
                f"the folder {path} holds no {_BEST}; "
                + (f"name one of its files ({first_few(held)}), or " if held else "")
                + "run `dvc repro`, which writes data/best.safetensors."
            )
        return best
    named = path.with_name(f"{path.name}.safetensors")
    return named if not path.exists() and named.is_file() else path


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch (from 1) lies."""
    return folder / f"epoch_{epoch:03d}.safetensors"


def checkpoints_of_run(folder: Path) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a folder in the order of their epochs, each read once when its turn comes.

    Raises PipelineError where there are none, or naming an epoch that is missing, or a file that is damaged,
    stands under another epoch's name, or comes from another run than the first, with the fact in which it
    differs.
    """
    named = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in folder.glob("*.safetensors"))
    found = {int(match[1]): path for match, path in named if match}
    if not found:
        raise PipelineError(f"{folder} holds no checkpoints; run `dvc repro train`.")
    missing = set(range(1, max(found))) - found.keys()
    if missing:
        raise PipelineError(f"{folder} lacks the checkpoint of epoch {min(missing)}; run `dvc repro train`.")
    first: CheckpointInfo | None = None
    for epoch, path in sorted(found.items()):
        checkpoint = load_checkpoint(path)
        if checkpoint.info.epoch != epoch:
            raise PipelineError(
                f"{path} holds epoch {checkpoint.info.epoch}, not {epoch}; run `dvc repro train`."
            )
        first = first or checkpoint.info
        facts, wanted = asdict(checkpoint.info), asdict(replace(first, epoch=epoch))
        if facts != wanted:
            # The fingerprint of the whole run last: what it follows from says more.
            name, value, other = min(differences(facts, wanted), key=lambda found: found[0] == "training")
            raise PipelineError(
                f"{path} comes from another training run than epoch {first.epoch}: its {name} is "
                f"{value!r:.60}, not {other!r:.60}; run `dvc repro train`."
            )
        yield checkpoint


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and values."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        total.update(f"{key}{tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()
