"""The prompt, its tokens, and the caption tokens that carry loss.

    [BOS] "USER: " · P image embeddings · "\\n{instruction}\\nASSISTANT:" · " " + caption · EOS
    └──────── before ────────┘             └────────── after ──────────┘   └── the loss is here ──┘

The parts are tokenized apart and joined as token ids, so the border between prompt and caption is known
by construction: no text is ever tokenized again to find it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEFORE_IMAGE = "USER: "
AFTER_IMAGE = "\n{instruction}\nASSISTANT:"


@dataclass(frozen=True)
class Prompt:
    """The token ids around the image, and the one that ends a caption."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    eos: int

    def prefix_length(self, num_tokens: int) -> int:
        """Positions in front of a caption, for images of `num_tokens` tokens."""
        return len(self.before) + num_tokens + len(self.after)


@dataclass(frozen=True)
class TokenizerSpec:
    """Every fact that token ids depend on."""

    name: str
    revision: str | None
    digest: str  # SHA-256 of the tokenizer files
    instruction: str
    lowercase: bool
    strip_period: bool
    max_caption_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return dict(self.__dict__)


class CaptionTokenizer:
    """Tokenizes prompt and captions for one language model."""

    def __init__(
        self, prompt: PromptParams, model: LanguageModelParams, model_cache: Path | None = None
    ) -> None:
        from transformers import AutoTokenizer

        folder = resolve_model(model.name, model.revision, model_cache)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{model.name} has no tokenizer that can be loaded: {' '.join(str(error).split())}"
            ) from error
        if tokenizer.eos_token_id is None:
            raise PipelineError(f"the tokenizer of {model.name} has no end-of-sequence token.")
        self._tokenizer: PreTrainedTokenizerBase = tokenizer
        self._params = prompt
        bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.prompt = Prompt(
            before=(*bos, *self._ids(BEFORE_IMAGE)),
            after=tuple(self._ids(AFTER_IMAGE.format(instruction=prompt.instruction))),
            eos=tokenizer.eos_token_id,
        )
        self.spec = TokenizerSpec(
            name=model.name,
            revision=model.revision,
            digest=tokenizer_digest(folder),
            instruction=prompt.instruction,
            lowercase=prompt.lowercase,
            strip_period=prompt.strip_period,
            max_caption_tokens=prompt.max_caption_tokens,
        )

    def encode_caption(self, caption: str) -> list[int]:
        """Token ids of " " + the normalised caption, without EOS and uncut; none if no word is left."""
        normalized = normalize_caption(caption, self._params.lowercase, self._params.strip_period)
        return self._ids(f" {normalized}") if normalized else []

    def decode_caption(self, ids: Sequence[int]) -> str:
        """The caption that generated ids stand for: up to EOS, on one line, without outer blanks."""
        kept = list(ids)
        if self.prompt.eos in kept:
            kept = kept[: kept.index(self.prompt.eos)]
        return " ".join(str(self._tokenizer.decode(kept, skip_special_tokens=True)).split())

    def _ids(self, text: str) -> list[int]:
        # A caption that spells out a special token ("<|im_end|>") must not become that token.
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids


def truncate_caption(ids: list[int], most: int) -> tuple[list[int], bool]:
    """Return at most so many token ids of a caption, and whether it was longer: then it has no end there."""
    return ids[:most], len(ids) > most


def normalize_caption(caption: str, lowercase: bool, strip_period: bool) -> str:
    """One line, single blanks; lower case and without a final period where asked for.

    Scores know neither case nor periods, and one form is easier to learn than two: nine of ten captions of
    Flickr8k end in a period, the tenth does not.
    """
    text = " ".join(caption.split())
    if strip_period:
        text = text.removesuffix(".").rstrip()
    return text.lower() if lowercase else text
