"""The prompt, its tokens, and the caption tokens that carry loss.

    [BOS] "USER: " · P image embeddings · "\\n{instruction}\\nASSISTANT:" · " " + caption · EOS
    └──────── before ────────┘             └────────── after ──────────┘   └── the loss is here ──┘

With `prompt.similar_captions` the context stands in front of `after`: captions of the most similar train
images, as "\\nSimilar images show: c1; c2; …; cn" (SmallCap, Ramos et al. 2023).

A question takes the place of the instruction, and its answer that of the caption. Where a conversation goes
on, "USER: {question}\\nASSISTANT:" follows the EOS of the answer before.

The parts are tokenized separately and joined as token ids, so the border between prompt and caption is known
by construction: no text is tokenized a second time to find it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.pretrained.pretrained import resolve_model, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEFORE_IMAGE = "USER: "
_SIMILAR = "\nSimilar images show:"
_SEPARATOR = ";"
_ASSISTANT = "\nASSISTANT:"


@dataclass(frozen=True)
class Prompt:
    """The token ids around the image, and the id that ends a caption.

    Attributes:
        similar: what introduces captions of similar images; empty where the prompt has none.
        separator: what stands between two of them.
        similar_tokens: how many tokens they may have together, separators included.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    eos: int
    similar: tuple[int, ...] = ()
    separator: tuple[int, ...] = ()
    similar_tokens: int = 0

    def prefix_length(self, num_tokens: int) -> int:
        """Count the positions before a caption, but for the context, for images of `num_tokens` tokens."""
        return len(self.before) + num_tokens + len(self.after)

    def context_start(self, num_tokens: int) -> int:
        """Count the positions before a context, for images of `num_tokens` tokens."""
        return len(self.before) + num_tokens

    def context(self, captions: Iterable[Sequence[int]]) -> list[int]:
        """Join captions of similar images, the nearest first, leaving out those that do not fit; [] for none.

        The captions are token ids as `CaptionTokenizer.encode_caption` returns them.
        """
        ids: list[int] = []
        for caption in captions:
            longer = [*ids, *self.separator, *caption] if ids else [*caption]
            if len(longer) <= self.similar_tokens:
                ids = longer
        return [*self.similar, *ids] if ids else []

    @property
    def longest_context(self) -> int:
        """Tokens that a context has at most."""
        return len(self.similar) + self.similar_tokens


class CaptionTokenizer:
    """Tokenizes prompt and captions for one language model.

    Attributes:
        params: the section `prompt` of params.yaml.
        prompt: its token ids.
        spec: everything that token ids depend on, as JSON values; `digest` is that of the tokenizer's files.
    """

    def __init__(
        self, params: PromptParams, model: LanguageModelParams, model_cache: Path | None = None
    ) -> None:
        from transformers import AutoTokenizer

        folder = resolve_model(model.name, model.revision, model_cache)
        choose_another = "Fix: choose another language_model.name."
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()).removesuffix(".")
            raise PipelineError(
                f"The tokenizer of {model.name} cannot be loaded ({reason}). {choose_another}"
            ) from error
        if tokenizer.eos_token_id is None:
            raise PipelineError(f"The tokenizer of {model.name} has no end of sequence. {choose_another}")
        self._tokenizer: PreTrainedTokenizerBase = tokenizer
        self.params = params
        bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.prompt = Prompt(
            before=(*bos, *self._ids(_BEFORE_IMAGE)),
            after=tuple(self._ids(f"\n{params.instruction}{_ASSISTANT}")),
            eos=tokenizer.eos_token_id,
            similar=tuple(self._ids(_SIMILAR)) if params.similar_captions else (),
            separator=tuple(self._ids(_SEPARATOR)) if params.similar_captions else (),
            similar_tokens=params.similar_tokens if params.similar_captions else 0,
        )
        origin = {"name": model.name, "revision": model.revision, "digest": tokenizer_digest(folder)}
        self.spec: dict[str, Any] = {**origin, **asdict(params)}
        if not params.similar_captions:
            del self.spec["similar_captions"], self.spec["similar_tokens"]

    def encode_question(self, question: str, follows: bool = False) -> list[int]:
        """Tokenize a question as it stands behind the image, or, if it `follows`, behind an answer."""
        before = _BEFORE_IMAGE if follows else "\n"
        return self._ids(f"{before}{' '.join(question.split())}{_ASSISTANT}")

    def encode_caption(self, caption: str) -> list[int]:
        """Tokenize " " + the normalized caption, at full length and without EOS; [] if no word is left."""
        text = normalize_caption(caption, self.params.lowercase, self.params.strip_period)
        return self._ids(f" {text}") if text else []

    def decode_caption(self, ids: Sequence[int]) -> str:
        """Turn generated ids into a caption: up to EOS, on one line, without outer blanks."""
        words = list(takewhile(lambda token: token != self.prompt.eos, ids))
        return " ".join(str(self._tokenizer.decode(words, skip_special_tokens=True)).split())

    def _ids(self, text: str) -> list[int]:
        # A caption that spells out a special token ("<|im_end|>") must not become that token.
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids


def normalize_caption(caption: str, lowercase: bool, strip_period: bool) -> str:
    """Put a caption on one line with single blanks; if asked, in lower case and without a final period.

    Scores ignore case and periods, and one form is easier to learn than two: nine of ten captions of
    Flickr8k end in a period, the tenth does not.
    """
    text = " ".join(caption.split())
    if strip_period:
        text = text.removesuffix(".").rstrip()
    return text.lower() if lowercase else text
