"""Frozen models on a CUDA GPU: what they give is what a CPU gives, to rounding.

Run: make test-cuda
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from pipeline.encoding.encode import encode_images
from pipeline.features.store import FeatureStore
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.model.generation import Generated, generate_candidates
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, Params
from pipeline.regions.captioner import Captioner
from tests.cuda.conftest import on_gpu
from tests.pictures import Pictures, noise
from tests.tiny_llama import GREEDY, load_llama, make_features, make_model

IMAGES = 8


def captions(model: VisionLanguageModel, params: GenerateParams, batch_size: int) -> list[Generated]:
    return [best for best, *_ in generate_candidates(model, make_features(IMAGES), params, batch_size)]


def test_a_gpu_is_chosen_by_itself_with_the_precision_that_it_has() -> None:
    placement = choose_placement("auto")
    assert placement.device.type == "cuda"
    native = torch.cuda.get_device_capability() >= (8, 0)
    assert placement.dtype == (torch.bfloat16 if native else torch.float16)


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("beams", [1, 3])
def test_captions_in_float32_are_those_of_a_cpu_in_any_batch(
    tiny_llama: Path, quantization: Literal["nf4", "none"], beams: int
) -> None:
    how = replace(GREEDY, beams=beams)
    on_cpu = captions(make_model(load_llama(tiny_llama, quantization)), how, IMAGES * beams)
    model = make_model(load_llama(tiny_llama, quantization, on_gpu(torch.float32)))
    assert captions(model, how, IMAGES * beams) == on_cpu
    assert captions(model, how, beams) == on_cpu


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_captions_in_half_precision_are_made(tiny_llama: Path, dtype: torch.dtype) -> None:
    made = captions(make_model(load_llama(tiny_llama, "nf4", on_gpu(dtype))), GREEDY, IMAGES)
    assert [len(caption.ids) for caption in made] == [GREEDY.max_new_tokens] * IMAGES
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
    captioner = Captioner.load(tiny_checkpoint, device="cuda")
    assert isinstance(captioner.caption(noise(64, 64)).text, str)
