"""A trained captioner of tiny models, and its export."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.export.llava import export_llava
from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_candidates
from pipeline.params.schema import LanguageModelParams, LoraParams, Params
from pipeline.vision.load import load_encoder
from tests.tiny_captioner import save_captioner
from tests.tiny_llama import GREEDY
from tests.unit.export.trained import LENGTH, Train, Trained, pictures

NO_LORA = LoraParams(rank=0, alpha=16.0, dropout=0.0, targets=())


@pytest.fixture(scope="session")
def train(tiny_llama: Path, tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Makes a checkpoint with a random projector, and its captions."""

    def make(
        hidden_size: int = 48,
        quantization: str = "none",
        llama: Path = tiny_llama,
        instruction: str = "Describe this image.",
        lora: LoraParams = NO_LORA,
        **encoder: Any,
    ) -> Trained:
        params = replace(
            tiny_params,
            encoder=replace(tiny_params.encoder, **encoder),
            language_model=LanguageModelParams(str(llama), None, quantization, double_quantization=False),  # type: ignore[arg-type]
            prompt=replace(tiny_params.prompt, instruction=instruction, max_caption_tokens=LENGTH),
            projector=replace(tiny_params.projector, hidden_size=hidden_size),
            lora=lora,
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
