"""Tokenizers of prompt and captions for tests."""

from pathlib import Path

from pipeline.params.schema import LanguageModelParams, PromptParams
from pipeline.text.prompt import CaptionTokenizer


def caption_tokenizer(
    model: str | Path,
    lowercase: bool = False,
    instruction: str = "Describe this image.",
    max_caption_tokens: int = 48,
    similar_captions: int = 0,
) -> CaptionTokenizer:
    prompt = PromptParams(
        instruction, lowercase, True, max_caption_tokens, similar_captions=similar_captions, similar_tokens=48
    )
    return CaptionTokenizer(prompt, LanguageModelParams(str(model), None, "none", double_quantization=False))
