"""What training saves: a small, self-describing file for each epoch, and the state to resume from.

Both are safetensors, written atomically, with one JSON string as metadata (several metadata keys would be
written in random order, and DVC compares bytes). The format has no checksum, so the metadata contains one, of
tensors and metadata together. Nothing is ever unpickled.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pipeline.errors import PipelineError, first_few, shorten
from pipeline.files.differences import differences
from pipeline.files.json_files import canonical_json, digest, write_atomic
from pipeline.files.unchanged_file import UnchangedFile
from pipeline.model.adapters import require_shapes, split_state
from pipeline.model.projector import Projector
from pipeline.params.schema import EncoderParams, GenerateParams, LanguageModelParams, PromptParams
from pipeline.retrieval.memory import Memory

T = TypeVar("T")

FORMAT_VERSION = 3
_METADATA_KEY = "vlm"
_CHECKSUM = "sha256"
_BEST = "best.safetensors"
_MOST_ANSWER_TOKENS = 4096  # a checkpoint may come from anywhere
_CHECKPOINT_NAME = re.compile(r"epoch_(\d{3,})\.safetensors")


@dataclass(frozen=True)
class CheckpointInfo:
    """The provenance that a checkpoint contains in addition to the trained weights.

    `encoder`, `tokenizer` and `language_model` are the specs of the frozen parts that the checkpoint must be
    used with. `training` is the fingerprint of everything that the checkpoint follows from, `features` the
    digest of its training images' features (`FeatureStore.digest`), and `tokens` that of the prompt's and
    their captions' ids. `longest_caption` counts the tokens of the longest training caption with its end.
    `lora` says how the adapters are built; without adapters it is None. `memory` is the digest of the memory
    that similar captions come from, None where the prompt shows none. `data` names the dataset and counts its
    training images, and its conversations if it has any; older checkpoints lack it. `generate` says how the
    captions of the checkpoint's scores were decoded; only `best.safetensors` has it.
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
    memory: str | None = None
    data: dict[str, Any] | None = None
    generate: dict[str, Any] | None = None

    @property
    def trained_on(self) -> str:
        """Return a sentence on the images of the training, for people who use the model."""
        match self.data:
            case {"source": "scenes", "images": int(images)}:
                return (
                    f"Trained on {images:,} generated scenes of colored shapes; photographs are outside what "
                    "it knows."
                )
            case {"source": str(source), "name": str(name), "images": int(images)}:
                # A checkpoint may come from anywhere, and terminals obey control characters.
                words = "".join(character for character in name[:80] if character.isprintable())
                dataset = words if source in ("flickr8k", "hub") else f"the folder {words}"
                return f"Trained on {images:,} images of {dataset}."
        return "The checkpoint does not say what it was trained on."

    @property
    def longest_answer(self) -> int | None:
        """Return the tokens of the longest answer of the training; None: it had no questions."""
        match self.data:
            case {"longest_answer": int(longest)} if 0 < longest <= _MOST_ANSWER_TOKENS:
                return longest
        return None

    def encoder_params(self) -> EncoderParams:
        """Return the section `encoder` of the params that the checkpoint was trained with."""
        return _section(EncoderParams, self.encoder)

    def language_model_params(self) -> LanguageModelParams:
        """Return the section `language_model` of these params."""
        return _section(LanguageModelParams, self.language_model)

    def prompt_params(self) -> PromptParams:
        """Return the section `prompt` of these params."""
        # The spec leaves out what a prompt without similar captions does not follow from.
        return _section(PromptParams, {"similar_captions": 0, "similar_tokens": 1, **self.tokenizer})


def _section(section: type[T], spec: Mapping[str, Any]) -> T:
    return section(**{item.name: spec[item.name] for item in fields(section)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: a projector in evaluation mode, the adapters' tensors, the provenance.

    `content` is the bytes of `file`, so that everything that follows from a checkpoint follows from one read.
    """

    projector: Projector
    adapters: dict[str, Tensor]
    info: CheckpointInfo
    file: UnchangedFile
    content: bytes = field(repr=False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata as one safetensors file, atomically; equal content gives equal bytes."""
    contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    checked = {**metadata, _CHECKSUM: _checksum(contiguous, metadata)}
    write_atomic(path, save(contiguous, {_METADATA_KEY: canonical_json(checked)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises PipelineError for a missing, foreign or damaged file, even if only one bit of it changed.
    """
    return _parse_tensors(*UnchangedFile.read(path))


def _parse_tensors(file: UnchangedFile, content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        # safetensors reads metadata only from a path, and the file is read once.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata: dict[str, Any] = json.loads(header["__metadata__"][_METADATA_KEY])
        checksum = metadata.pop(_CHECKSUM)
        tensors = load(content)
        if checksum != _checksum(tensors, metadata):
            raise ValueError("its checksum is wrong")
    # TypeError: metadata that is not an object, or tensors of a type that numpy lacks.
    except (SafetensorError, KeyError, ValueError, RecursionError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{file.path} is not a checkpoint of this project, or is damaged ({error}). "
            "Fix: name another file, or run `dvc repro`."
        ) from error
    return tensors, metadata


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    return digest([tensor_digest(tensors), metadata])


def save_checkpoint(path: Path, trained: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Write the tensors of projector and adapters with their provenance."""
    save_tensors(path, trained, {"format_version": FORMAT_VERSION, **asdict(info)})


def save_scored(path: Path, checkpoint: Checkpoint, generate: GenerateParams) -> None:
    """Write a checkpoint that was read with how the captions of its scores were decoded."""
    tensors, metadata = _parse_tensors(checkpoint.file, checkpoint.content)
    save_tensors(path, tensors, {**metadata, "generate": asdict(generate)})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises PipelineError for an unreadable file, or a projector whose shapes differ from its provenance. The
    shapes of adapters follow from the language model: `Adapters.load_state_dict` checks them.
    """
    file, content = UnchangedFile.read(path)
    tensors, metadata = _parse_tensors(file, content)
    version = metadata.pop("format_version", None)
    try:
        if version != FORMAT_VERSION:
            raise ValueError(f"its format version is {version}, expected {FORMAT_VERSION}")
        info = CheckpointInfo(**metadata)
        shape = info.encoder["width"], info.hidden_size, info.width_out
        with torch.device("meta"):  # the numbers of a file must not make it take memory
            expected = Projector(*shape).state_dict()
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        raise PipelineError(
            f"{path} is not a checkpoint of this version ({error}). Fix: run `dvc repro train`."
        ) from error
    weights, adapters = split_state(tensors) if info.lora else (tensors, {})
    require_shapes(weights, expected, str(path))
    projector = Projector(*shape)
    projector.load_state_dict(weights)
    return Checkpoint(projector.eval(), adapters, info, file, content)


def find_checkpoint(path: Path) -> Path:
    """Find the checkpoint that a user means: a file, its name without `.safetensors`, or a folder.

    In a folder it is `best.safetensors`, which evaluation writes. Raises PipelineError if that is missing.
    """
    if not path.is_dir():
        named = path.with_name(f"{path.name}.safetensors")
        return named if not path.exists() and named.is_file() else path
    best = path / _BEST
    if not best.is_file():
        files = first_few(sorted(file.name for file in path.glob("*.safetensors")))
        choice = f"name a file of it ({files}), or " if files else ""
        raise PipelineError(
            f"{path} has no {_BEST}. Fix: {choice}run `dvc repro`, which writes data/best.safetensors."
        )
    return best


def memory_of_checkpoint(checkpoint: Checkpoint, path: Path) -> Memory | None:
    """Read the memory of captions next to a checkpoint; None without a file, if its prompt shows no captions.

    Raises PipelineError where a needed file is missing, is damaged, or is another memory.
    """
    named = checkpoint.info.memory
    if not path.exists():
        if named is None:
            return None
        raise PipelineError(
            f"{checkpoint.file.path} reads captions of similar images, and {path} does not exist. "
            "Fix: put the memory.h5 of its training there, or run `dvc repro`."
        )
    memory = other_memory(checkpoint, path)
    if named not in (None, memory.digest):
        raise PipelineError(
            f"{path} is not the memory of captions that {checkpoint.file.path} was trained with. "
            "Fix: put that memory there, or run `dvc repro`."
        )
    return memory


def other_memory(checkpoint: Checkpoint, path: Path) -> Memory:
    """Read a memory of captions that a checkpoint was perhaps not trained with.

    Raises PipelineError for a missing or damaged file, or a memory of another encoder.
    """
    if not path.exists():
        raise PipelineError(
            f"{path} does not exist. Fix: name a memory of captions, or make it with `vlm memory build`."
        )
    memory = Memory.read(path)
    for key, present, wanted in differences(memory.spec, checkpoint.info.encoder):
        raise PipelineError(
            f"{path} was made with encoder {key} {present!r}, but {checkpoint.file.path} needs {wanted!r}. "
            "Fix: make it with that encoder."
        )
    return memory


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return the path of the checkpoint of an epoch (from 1)."""
    return folder / f"epoch_{epoch:03d}.safetensors"


def checkpoints_of_run(folder: Path) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a folder in the order of their epochs, each read when it is asked for.

    Raises PipelineError if an epoch is missing, or for a file that is damaged, has another epoch's name, or
    comes from another training run than the first.
    """
    names = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in folder.glob("*.safetensors"))
    paths = {int(match[1]): path for match, path in names if match}
    if missing := set(range(1, max(paths, default=1) + 1)) - paths.keys():
        raise PipelineError(
            f"{folder} has no checkpoint of epoch {min(missing)}. Fix: run `dvc repro train`."
        )
    first: CheckpointInfo | None = None
    for epoch, path in sorted(paths.items()):
        checkpoint = load_checkpoint(path)
        first = first or checkpoint.info
        wrong = differences(asdict(checkpoint.info), asdict(replace(first, epoch=epoch)))
        # The fingerprint of the whole training comes last: what it follows from says more.
        for name, value, expected in sorted(wrong, key=lambda item: item[0] == "training"):
            raise PipelineError(
                f"{path} is not epoch {epoch} of this training: {name} is {shorten(value)}, expected "
                f"{shorten(expected)}. Fix: run `dvc repro train`."
            )
        yield checkpoint


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 (hex) of names, shapes and values."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        total.update(f"{key}{tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()
