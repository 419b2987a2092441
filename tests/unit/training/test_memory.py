"""Memory known before it is spent: the estimate against what autograd really keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement, choose_placement
from pipeline.model.adapters import inject_adapters
from pipeline.model.language_model import load_language_model
from pipeline.model.packing import pack
from pipeline.params.schema import LanguageModelParams, LoraParams, Params
from pipeline.training.memory import (
    LargestBatch,
    MemoryEstimate,
    NoEstimateError,
    estimate_memory,
    largest_batch,
    require_memory,
)

NO_LORA = LoraParams(rank=0, alpha=16.0, dropout=0.0, targets=("q_proj",))
LORA = LoraParams(rank=4, alpha=16.0, dropout=0.0, targets=("q_proj", "down_proj"))
GPU = Placement(torch.device("cuda"), torch.bfloat16, "pretended")
CAPTIONS = [[[5] * 6, [6] * 7]] * 3
PREFIX = 12
BATCH = LargestBatch(rows=3, positions=PREFIX + 15, labels=3 * 15)


def estimate(
    folder: Path, quantization: str = "none", lora: LoraParams = NO_LORA, checkpointing: bool = False
) -> MemoryEstimate:
    params = LanguageModelParams(str(folder), None, quantization, double_quantization=False)  # type: ignore[arg-type]
    return estimate_memory(folder, params, lora, (10, 20), BATCH, torch.float32, checkpointing)


def really_kept(folder: Path, quantization: str, lora: LoraParams, checkpointing: bool = False) -> int:
    """Bytes of the tensors, weights aside, that autograd keeps of one forward pass through the layers."""
    params = LanguageModelParams(str(folder), None, quantization, double_quantization=False)  # type: ignore[arg-type]
    model = load_language_model(params, choose_placement("cpu"))
    inject_adapters(model, lora).train(True)
    if checkpointing:
        model.checkpoint_layers()
    weights = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    batch = pack(CAPTIONS, PREFIX, eos=0)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    embeddings = torch.randn(*batch.positions.shape, model.width, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.hidden_states(embeddings, batch.mask, batch.positions)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


@pytest.mark.parametrize("lora", [NO_LORA, LORA], ids=["frozen", "adapters"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_activations_are_those_that_autograd_keeps(
    tiny_llama: Path, quantization: str, lora: LoraParams
) -> None:
    # Attention kernels differ: on `meta` the plain one runs, which keeps its probabilities too.
    assert estimate(tiny_llama, quantization, lora).activations == pytest.approx(
        really_kept(tiny_llama, quantization, lora), rel=0.25
    )


def test_adapters_keep_their_inputs(tiny_llama: Path) -> None:
    """With dropout a mask of each, and the result, beside."""
    frozen, adapted = estimate(tiny_llama).activations, estimate(tiny_llama, lora=LORA).activations
    dropping = estimate(tiny_llama, lora=replace(LORA, dropout=0.1)).activations
    assert frozen < adapted < dropping


def test_adapters_of_layers_that_there_are_not_are_named_before_weights_are_loaded(tiny_llama: Path) -> None:
    with pytest.raises(PipelineError, match=r"lora\.targets names qkv, but .*tiny-llama has no linear layer"):
        estimate(tiny_llama, lora=replace(LORA, targets=("qkv",)))


def test_weights_are_counted_by_how_they_are_kept(tiny_llama: Path) -> None:
    params = LanguageModelParams(str(tiny_llama), None, "none", double_quantization=False)
    model = load_language_model(params, choose_placement("cpu")).model
    assert estimate(tiny_llama).weights == sum(p.nbytes for p in model.parameters())
    assert estimate(tiny_llama, "nf4").weights < estimate(tiny_llama).weights


def test_adapters_count_as_trained(tiny_llama: Path) -> None:
    adapted = estimate(tiny_llama, lora=LoraParams(rank=4, alpha=16.0, dropout=0.0, targets=("q_proj",)))
    assert adapted.trained > estimate(tiny_llama).trained > 0


def test_checkpointing_keeps_less(tiny_llama: Path) -> None:
    assert estimate(tiny_llama, checkpointing=True).activations < estimate(tiny_llama).activations
    kept, checkpointed = (really_kept(tiny_llama, "nf4", NO_LORA, on) for on in (False, True))
    assert checkpointed < kept / 2


@pytest.mark.parametrize(
    ("together", "processes", "expected"),
    [
        ("all", 1, LargestBatch(rows=3, positions=5 + 9, labels=27)),
        (1, 1, LargestBatch(rows=3, positions=5 + 6, labels=18)),
        ("all", 2, LargestBatch(rows=2, positions=5 + 9, labels=18)),
    ],
)
def test_the_largest_batch_has_rows_as_long_as_the_longest(
    tiny_params: Params, together: Any, processes: int, expected: LargestBatch
) -> None:
    params = replace(tiny_params.train, batch_size=3, captions_per_pass=together)
    assert largest_batch([[3], [6, 3], [4, 4]], params, prefix_length=5, processes=processes) == expected


@pytest.mark.parametrize("name", ["OPTConfig", "GPT2Config"])
def test_other_architectures_can_be_estimated(tmp_path: Path, name: str) -> None:
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    extra = {"OPTConfig": {"ffn_dim": 32, "word_embed_proj_dim": 16}, "GPT2Config": {}}[name]
    getattr(transformers, name)(**small, **extra).save_pretrained(tmp_path)
    assert estimate(tmp_path, "nf4").activations > 0


def test_an_architecture_that_does_not_run_without_values_is_told_apart(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks_at_values(_: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * float(hidden.detach().sum())

    monkeypatch.setattr(LlamaMLP, "forward", looks_at_values)
    with pytest.raises(NoEstimateError, match=r"LlamaForCausalLM: .*meta"):
        estimate(tiny_llama)


def test_a_folder_without_a_model_is_no_foreign_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PipelineError, match="cannot be used as a causal language model"):
        estimate(tmp_path)


def test_on_a_gpu_that_is_too_small_the_parameters_to_change_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4_000_000_000, 8_000_000_000))
    small = MemoryEstimate(weights=1e9, trained=1e8, activations=5e8, logits=5e8)
    require_memory(small, GPU)
    large = MemoryEstimate(weights=1e9, trained=1e8, activations=2e9, logits=1e9)
    with pytest.raises(PipelineError, match=r"4\.00 of the 8\.00 GB .* lower train\.batch_size"):
        require_memory(large, GPU)


def test_on_a_cpu_nothing_is_refused() -> None:
    require_memory(MemoryEstimate(1e15, 0, 0, 0), choose_placement("cpu"))
