"""A checkpoint put back between the frozen models that it names: features in, captions out.

n: images, P: tokens of an image, D_v: width of the encoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.differences import differences
from pipeline.hardware.device import Placement
from pipeline.model.adapters import adapter_params, inject_adapters
from pipeline.model.checkpoints import Checkpoint, CheckpointInfo
from pipeline.model.generation import generate_ids
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import caption_labels, pack
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams
from pipeline.text.prompt import CaptionTokenizer, truncate_caption


@dataclass(frozen=True)
class GeneratedCaption:
    """A caption, and whether it ended by itself or was cut off at the length limit."""

    text: str
    finished: bool


@dataclass(frozen=True)
class ScoredCaption(GeneratedCaption):
    """A caption fresh from the model, with the mean log-probability (nats) of its tokens.

    `generation.Generated` defines the score; files of predictions do not hold it.
    """

    score: float = field(compare=False)


class FeatureCaptioner:
    """Projector, language model (with its adapters, if any) and tokenizer of a checkpoint."""

    def __init__(self, model: VisionLanguageModel, tokenizer: CaptionTokenizer, info: CheckpointInfo) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self.info = info

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement, model_cache: Path | None) -> Self:
        """Put a checkpoint back before the frozen language model that it names.

        Raises PipelineError when model or tokenizer are not those that the checkpoint was trained with, or
        its adapters are not those that its facts call for.
        """
        info = checkpoint.info
        facts = info.language_model
        params = info.language_model_params()
        tokenizer = CaptionTokenizer(info.prompt_params(), params, model_cache)
        language_model = load_language_model(params, placement, model_cache)
        spec, compared = language_model.spec.as_dict(), ("weights", "end_ids")
        found = {key: spec[key] for key in compared} | {"tokenizer": tokenizer.spec.digest}
        expected = {key: facts[key] for key in compared} | {"tokenizer": info.tokenizer["digest"]}
        for part, value, wanted in differences(found, expected):
            raise PipelineError(
                f"the {part} of {params.name} changed since {checkpoint.file.path} was trained: it was "
                f"trained with {wanted!s:.24}, found {value!s:.24}. Restore that revision, "
                "or run `dvc repro train`."
            )
        adapters = inject_adapters(language_model, adapter_params(info.lora))
        adapters.load_state_dict(checkpoint.adapters, str(checkpoint.file.path))
        model = VisionLanguageModel(
            checkpoint.projector.to(placement.device), language_model, tokenizer.prompt, adapters
        )
        return cls(model, tokenizer, info)

    def use_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Swap in the projector, and the adapters, of another epoch of the same training run."""
        info = checkpoint.info
        if (info.training, info.lora) != (self.info.training, self.info.lora):
            raise PipelineError(
                f"{checkpoint.file.path} comes from another training run than {self.info.epoch}'s; "
                "run `dvc repro train`."
            )
        self.model.adapters.load_state_dict(checkpoint.adapters, str(checkpoint.file.path))
        self.model.projector = checkpoint.projector.to(self.model.language_model.device)
        self.info = info

    @torch.inference_mode()
    def loss(self, batches: Iterable[tuple[Tensor, Sequence[Sequence[str]]]]) -> float:
        """Mean cross-entropy (nats) over all tokens of the captions that people wrote, their ends included.

        A caption that is longer than those of training is cut as they are, and has no end.
        `batches` are features `[n, P, D_v]` and the captions of each of these n images.
        """
        model = self.model.eval()
        device = model.language_model.device
        total, labels = 0.0, 0
        for features, captions in batches:
            rows = [[self._labels(caption) for caption in of_image] for of_image in captions]
            batch = pack(rows, model.prefix_length(features.shape[1]))
            total += float(model.loss(features.to(device), batch.to(device)))
            labels += len(batch.labels)
        return total / labels

    def _labels(self, caption: str) -> list[int]:
        ids = self._tokenizer.encode_caption(caption)
        ids, truncated = truncate_caption(ids, self.info.tokenizer["max_caption_tokens"])
        return caption_labels(ids, self.model.prompt.eos, truncated)

    def caption(self, features: Tensor, params: GenerateParams, batch_size: int) -> Iterator[ScoredCaption]:
        """Features `[n, P, D_v]` -> n captions, as they are made."""
        limited = replace(params, max_new_tokens=params.max_new_tokens or self.info.longest_caption)
        for one in generate_ids(self.model, features, limited, batch_size):
            yield ScoredCaption(self._tokenizer.decode_caption(one.ids), one.finished, one.score)
