"""Tokenizers of prompt and captions for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.text.prompt import CaptionTokenizer

PROMPT = PromptParams("Describe this image.", False, True, 48, similar_captions=0, similar_tokens=48)


def caption_tokenizer(model: str | Path, **prompt: Any) -> CaptionTokenizer:
    """The tokenizer of a language model, with changes of `prompt`'s parameters."""
    language_model = LanguageModelParams(str(model), None, "none", double_quantization=False)
    return CaptionTokenizer(replace(PROMPT, **prompt), language_model)
