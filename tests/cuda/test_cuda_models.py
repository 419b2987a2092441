"""Frozen models on a CUDA GPU: what they give is what a CPU gives, to rounding.

Run: make test-cuda
"""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline.training.memory import LargestBatch, estimate_memory

from pipeline.captions import ImageRecord, write_images
from pipeline.encoding.encode import encode_images
from pipeline.features.store import FeatureStore
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.model.generation import Generated, generate_ids
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.packing import pack
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams, LanguageModelParams, LoraParams, Params
from pipeline.regions.captioner import Captioner
from pipeline.text.prompt import Prompt
from pipeline.training.cost import peak_memory
from tests.gpu import GPU, on_gpu

PROMPT = Prompt(before=(0, 5, 6), after=(7, 8), eos=358)
IMAGES, NUM_TOKENS, WIDTH, LENGTH = 8, 4, 6, 8
GREEDY = GenerateParams(beams=1, max_new_tokens=LENGTH, length_penalty=1.0, no_repeat_ngram_size=0)
# A seventh of Llama-3.2-1B: large enough for what libraries take beside tensors not to matter.
MEDIUM = {
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}


def caption_model(language_model: LanguageModel) -> VisionLanguageModel:
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
        caption_model(load_language_model(params, choose_placement("cpu"))), how, IMAGES * beams
    )
    model = caption_model(load_language_model(params, on_gpu(torch.float32)))
    assert captions(model, how, IMAGES * beams) == on_cpu
    assert captions(model, how, beams) == on_cpu


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_captions_in_half_precision_are_made(tiny_llama: Path, dtype: torch.dtype) -> None:
    params = LanguageModelParams(str(tiny_llama), None, "nf4", False)
    made = captions(caption_model(load_language_model(params, on_gpu(dtype))), GREEDY, IMAGES)
    assert [len(one.ids) for one in made] == [LENGTH] * IMAGES
    assert all(np.isfinite(one.score) for one in made)


def test_features_are_those_of_a_cpu(tmp_path: Path, params: Params) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    records = [ImageRecord(p.name, p.as_posix(), sha256_of_file(p), 50, 40) for p in paths]
    write_images(tmp_path / "images.jsonl", records)
    stores = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / f"{device}.h5"
        runtime = replace(params.runtime, device=device)
        encode_images(
            tmp_path / "images.jsonl",
            output,
            params.encoder,
            Execution(choose_placement(device), runtime, tmp_path / device),
        )
        with FeatureStore(output) as store:
            stores[device] = store.read(store.image_ids).astype(np.float32)
    # Stored in float16, which keeps eleven bits: the last may fall otherwise.
    assert np.allclose(stores["cuda"], stores["cpu"], rtol=2**-10, atol=1e-3)


@pytest.mark.parametrize("quantization", ["nf4", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_takes_no_more_memory_than_was_estimated(
    tmp_path: Path, quantization: Literal["nf4", "none"], checkpointing: bool
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    with GPU:
        LlamaForCausalLM(LlamaConfig(**MEDIUM)).to(torch.bfloat16).save_pretrained(tmp_path)
    gc.collect()  # models lie in cycles
    before = torch.cuda.memory_allocated()
    params = LanguageModelParams(str(tmp_path), None, quantization, False)
    placement = on_gpu(torch.bfloat16)
    language_model = load_language_model(params, placement)
    if checkpointing:
        language_model.checkpoint_layers()
    model = VisionLanguageModel(Projector(768, 2048, 1024).to(GPU), language_model, PROMPT)
    rows = [[[9] * 25] * 5] * 8
    batch = pack(rows, PROMPT.prefix_length(49), PROMPT.eos).to(GPU)
    optimizer = torch.optim.AdamW(model.trainable_parameters())
    images = torch.randn(8, 49, 768, device=GPU)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        model.loss(images, batch).backward()
        optimizer.step()
    shape = LargestBatch(8, batch.positions.shape[1], len(batch.labels))
    no_adapters = LoraParams(0, 16.0, 0.0, ())
    estimate = estimate_memory(
        tmp_path, params, no_adapters, (768, 2048), shape, placement.dtype, checkpointing
    )
    measured = peak_memory(placement) - before
    assert measured <= estimate.total
    assert measured >= 0.6 * estimate.total  # nor is it an estimate that refuses what would fit


def test_a_checkpoint_captions_on_a_gpu(tiny_checkpoint: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    said = Captioner.load(tiny_checkpoint, device="cuda").caption(picture)
    assert isinstance(said.text, str)
