"""A trained captioner of tiny models, and its export."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.export.llava import export_llava
from pipeline.hardware.device import choose_placement
from pipeline.model.adapters import adapter_facts, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo, save_checkpoint
from pipeline.model.generation import generate_ids
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import (
    EncoderParams,
    GenerateParams,
    LanguageModelParams,
    LoraParams,
    PromptParams,
)
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.load import load_encoder
from tests.unit.export.trained import LENGTH, Train, Trained, pictures

CPU = choose_placement("cpu")
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH + 1, length_penalty=1.0, no_repeat_ngram_size=0)
NO_LORA = LoraParams(rank=0, alpha=16.0, dropout=0.0, targets=())
PROMPT = PromptParams("Describe this image.", lowercase=True, strip_period=True, max_caption_tokens=LENGTH)


@pytest.fixture(scope="module")
def train(tiny_clip: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Makes a checkpoint with a random projector, standardised as training does."""

    def make(
        tokens: str = "patches",
        layer: int = -2,
        hidden_size: int = 48,
        quantization: str = "none",
        grid: int | None = None,
        llama: Path = tiny_llama,
        instruction: str = PROMPT.instruction,
        lora: LoraParams = NO_LORA,
    ) -> Trained:
        encoder = load_encoder(EncoderParams(str(tiny_clip), None, layer, tokens, grid), CPU.device)  # type: ignore[arg-type]
        language_params = LanguageModelParams(str(llama), None, quantization, double_quantization=False)  # type: ignore[arg-type]
        language = load_language_model(language_params, CPU)
        tokenizer = CaptionTokenizer(replace(PROMPT, instruction=instruction), language_params)
        pixels = torch.stack([encoder.preprocess(picture) for picture in pictures()])
        features = encoder.encode(pixels).half()  # [6, P, D_v], as the feature store keeps them
        torch.manual_seed(0)
        projector = Projector(encoder.spec.width, hidden_size, language.width)
        projector.standardize(features.float())
        projector.scale_output(features.float(), language.embedding_norm())
        info = CheckpointInfo(
            epoch=2,
            encoder=encoder.spec.as_dict(),
            tokenizer=tokenizer.spec,
            language_model=language.spec.as_dict(),
            hidden_size=hidden_size,
            width_out=language.width,
            train={"learning_rate": 1e-3, "schedule": "constant"},
            training="fingerprint",
            features="123",
            tokens="456",
            longest_caption=LENGTH + 1,
            lora=adapter_facts(lora),
        )
        adapters = inject_adapters(language, lora)
        for matrix in adapters.parameters():
            torch.nn.init.normal_(matrix, std=0.3)  # fresh ones would change nothing
        checkpoint = tmp_path_factory.mktemp("trained") / "best.safetensors"
        model = VisionLanguageModel(projector, language, tokenizer.prompt, adapters)
        save_checkpoint(checkpoint, model.trainable_state(), info)
        captions = [
            [*one.ids, tokenizer.prompt.eos] if one.finished else list(one.ids)
            for one in generate_ids(model, features, GREEDY, batch_size=6)
        ]
        return Trained(checkpoint, captions)

    return make


@pytest.fixture(scope="module")
def trained(train: Train) -> Trained:
    return train()


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_llava(trained.checkpoint, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """A language model's folder that a test may change."""
    return shutil.copytree(tiny_llama, tmp_path / "llama")
