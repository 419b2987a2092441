"""A trained captioner of tiny models, its export, and what stock `transformers` says with that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from pipeline.export.llava import export_llava
from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_candidates
from pipeline.params.schema import LoraParams, Params
from pipeline.vision.load import load_encoder
from tests.params_files import with_changes
from tests.tiny_captioner import save_captioner
from tests.tiny_llama import GREEDY

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


@pytest.fixture(scope="session")
def train(tiny_llama: Path, tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Makes a checkpoint with a random projector, and its captions."""

    def make(
        hidden_size: int = 48,
        quantization: str = "none",
        llama: Path = tiny_llama,
        instruction: str = "Describe this image.",
        lora: LoraParams | None = None,
        **encoder: Any,
    ) -> Trained:
        params = with_changes(
            replace(tiny_params, lora=lora or tiny_params.lora),
            encoder=encoder,
            language_model={"name": str(llama), "quantization": quantization},
            prompt={"instruction": instruction, "max_caption_tokens": LENGTH},
            projector={"hidden_size": hidden_size},
        )
        path = save_captioner(tmp_path_factory.mktemp("trained") / "best.safetensors", params)
        placement = choose_placement("cpu")
        model = FeatureCaptioner.load(load_checkpoint(path), placement, None).model
        vision = load_encoder(params.encoder, placement.device)
        pixels = torch.stack([vision.preprocess(picture) for picture in pictures()])
        features = vision.encode(pixels).half()  # [6, P, D_v], as the feature store keeps them
        greedy = replace(GREEDY, max_new_tokens=LENGTH + 1)
        captions = [
            [*caption.ids, model.prompt.eos] if caption.finished else list(caption.ids)
            for caption, *_ in generate_candidates(model, features, greedy, batch_size=6)
        ]
        return Trained(path, captions)

    return make


@pytest.fixture(scope="session")
def trained(train: Train) -> Trained:
    return train()


@pytest.fixture(scope="session")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_llava(trained.checkpoint, tmp_path_factory.mktemp("exported") / "model")
