"""A trained captioner and what stock `transformers` says with its export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

LENGTH = 12
ASK = [{"role": "user", "content": [{"type": "image"}]}]


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and the token ids of its greedy captions of `pictures()`, ended by EOS."""

    checkpoint: Path
    captions: list[list[int]]


Train = Callable[..., Trained]


def pictures() -> list[Image.Image]:
    """Six pictures of different sizes and shapes."""
    noise = np.random.default_rng(0)
    small = [noise.integers(0, 256, (3 + i, 4, 3), dtype=np.uint8) for i in range(6)]
    return [Image.fromarray(pixels).resize((40 + 9 * i, 50)) for i, pixels in enumerate(small)]


def stock_captions(folder: Path, **options: Any) -> list[list[int]]:
    """Greedy captions of `pictures()` by transformers alone, as a stranger would ask for them."""
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(report.values()), report
    processor = AutoProcessor.from_pretrained(folder)
    prompt = processor.apply_chat_template(ASK, add_generation_prompt=True)
    captions = []
    for picture in pictures():
        inputs = processor(images=picture, text=prompt, return_tensors="pt")
        captions.append(model.generate(**inputs)[0, inputs["input_ids"].shape[1] :].tolist())
    return captions
