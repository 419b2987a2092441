"""Frozen models on a CUDA GPU: what they give is what a CPU gives, to rounding.

Run: make test-cuda
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.encoding.encode import encode_images
from pipeline.features.store import FeatureStore
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.model.generation import Generated, generate_ids
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams, Params
from pipeline.regions.captioner import Captioner
from pipeline.text.prompt import Prompt
from tests.gpu import on_gpu
from tests.pictures import Pictures

PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=358)
IMAGES, NUM_TOKENS, WIDTH, LENGTH = 8, 4, 6, 8
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH, length_penalty=1.0, no_repeat_ngram_size=0)


def vision_language_model(language_model: LanguageModel) -> VisionLanguageModel:
    language_model.end_ids = frozenset()
    torch.manual_seed(0)
    projector = Projector(WIDTH, 8, language_model.width).to(language_model.device)
    return VisionLanguageModel(projector, language_model, PROMPT)


def features() -> torch.Tensor:
    return torch.randn(IMAGES, NUM_TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def captions(model: VisionLanguageModel, params: GenerateParams, batch_size: int) -> list[Generated]:
    return list(generate_ids(model, features(), params, batch_size))


def test_a_gpu_is_chosen_by_itself_with_the_precision_that_it_has() -> None:
    placement = choose_placement("auto")
    assert placement.device.type == "cuda"
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert placement.dtype == (torch.bfloat16 if native else torch.float16)


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("beams", [1, 3])
def test_captions_in_float32_are_those_of_a_cpu_and_do_not_depend_on_the_batch(
    tiny_llama: Path, quantization: Literal["nf4", "none"], beams: int
) -> None:
    params = LanguageModelParams(str(tiny_llama), None, quantization, False)
    how = replace(GREEDY, beams=beams)
    on_cpu = captions(
        vision_language_model(load_language_model(params, choose_placement("cpu"))), how, IMAGES * beams
    )
    model = vision_language_model(load_language_model(params, on_gpu(torch.float32)))
    assert captions(model, how, IMAGES * beams) == on_cpu
    assert captions(model, how, beams) == on_cpu


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_captions_in_half_precision_are_made(tiny_llama: Path, dtype: torch.dtype) -> None:
    params = LanguageModelParams(str(tiny_llama), None, "nf4", False)
    made = captions(vision_language_model(load_language_model(params, on_gpu(dtype))), GREEDY, IMAGES)
    assert [len(caption.ids) for caption in made] == [LENGTH] * IMAGES
    assert all(np.isfinite(caption.score) for caption in made)


def test_features_are_those_of_a_cpu(tmp_path: Path, params: Params) -> None:
    pictures = Pictures(tmp_path, params, count=10)
    features = []
    for device in ("cpu", "cuda"):
        output = tmp_path / f"{device}.h5"
        execution = Execution.start(replace(params.runtime, device=device), tmp_path / device)
        encode_images(pictures.listing, output, params.encoder, execution)
        with FeatureStore(output) as store:
            features.append(store.read(list(store.image_ids)).astype(np.float32))
    # Stored in float16, which keeps eleven bits: the last may fall otherwise.
    cpu, cuda = features
    assert np.allclose(cuda, cpu, rtol=2**-10, atol=1e-3)


def test_a_checkpoint_captions_on_a_gpu(tiny_checkpoint: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert isinstance(Captioner.load(tiny_checkpoint, device="cuda").caption(picture).text, str)
