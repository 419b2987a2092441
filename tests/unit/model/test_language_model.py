"""The frozen language model: what training takes of it is what the model itself does, or it is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement
from pipeline.model.language_model import LanguageModel, load_language_model
from pipeline.model.probe import require_packable
from pipeline.params.schema import LanguageModelParams

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def saved(folder: Path, kind: str, **changes: Any) -> LanguageModel:
    """A small random model of an architecture, loaded again as training loads one."""
    torch.manual_seed(0)
    text = "Text" if kind in ("Gemma3", "Qwen3_5") else ""
    config = getattr(transformers, f"{kind}{text}Config")(**SMALL, **changes)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return load_language_model(LanguageModelParams(str(folder), None, "none", False), choose_placement("cpu"))


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma"])
def test_logits_are_the_models_own(tmp_path: Path, kind: str) -> None:
    model = saved(tmp_path, kind)
    ids = torch.tensor([[1, 5, 9]])
    with torch.inference_mode():
        own = model.model(input_ids=ids).logits
        ours = model.logits(model.model.base_model(input_ids=ids).last_hidden_state)
    assert torch.equal(own, ours)


@pytest.mark.parametrize(("kind", "changes"), [("Granite", {"logits_scaling": 8.0}), ("Cohere", {})])
def test_a_model_that_scales_its_logits_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(PipelineError, match="scales or caps its logits, which training here does not do yet"):
        saved(tmp_path, kind, **changes)


@pytest.mark.parametrize("kind", ["Llama", "Gemma"])
def test_the_embedding_norm_is_that_of_embeddings_as_the_model_uses_them(tmp_path: Path, kind: str) -> None:
    """Gemma multiplies them by the square root of its width."""
    model = saved(tmp_path, kind)
    expected = model.embed(torch.arange(96)).norm(dim=1).mean()
    assert model.embedding_norm() == pytest.approx(float(expected), rel=1e-5)


def test_nf4_computes_in_float32_on_every_cpu_with_a_gradient_or_without(tiny_llama: Path) -> None:
    """Where the processor has bfloat16, bitsandbytes would take it for what needs no gradient."""
    model = load_language_model(
        LanguageModelParams(str(tiny_llama), None, "nf4", False), choose_placement("cpu")
    )
    words = model.embed(torch.tensor([[1, 5, 9]]))  # [1, T, D_l]

    def with_gradient() -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = words.detach().requires_grad_()
        logits = model.model(inputs_embeds=inputs).logits
        logits.sum().backward()
        return logits.detach(), inputs.grad

    expected, gradient = with_gradient()
    with torch.no_grad():
        without = model.model(inputs_embeds=words).logits
    assert torch.allclose(without, expected, rtol=1e-5, atol=1e-5)
    # Nor does a pass without change those with.
    again, gradient_again = with_gradient()
    assert torch.equal(again, expected)
    assert gradient is not None
    assert gradient_again is not None
    assert torch.equal(gradient_again, gradient)


LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
STATES = {
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}
MIXED = ["linear_attention", "full_attention"]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Qwen3", {"head_dim": 8}),
        ("GPTNeoX", {}),
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 1}),
        ("Phi", {}),
        ("Mixtral", {"num_local_experts": 4, "sliding_window": None}),
        ("Mistral", {"sliding_window": 16}),
        ("Gemma3", {"head_dim": 8, "sliding_window": 16}),
    ],
)
def test_models_that_keep_packed_captions_apart_are_accepted(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    assert saved(tmp_path, kind, **changes).width == 32


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("Qwen3_5", {"head_dim": 8, "layer_types": MIXED, **LINEAR}),
        ("FalconH1", {"mamba_d_ssm": 32, **STATES}),
        ("RecurrentGemma", {"lru_width": 32, "attention_window_size": 8}),
    ],
)
def test_a_model_that_mixes_packed_captions_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(PipelineError, match=rf"{kind}ForCausalLM\) mixes captions that share a sequence"):
        saved(tmp_path, kind, **changes)


@pytest.mark.parametrize("kind", ["Mamba", "Rwkv"])
def test_a_model_without_attention_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        PipelineError, match=rf"{tmp_path.name} cannot be loaded as a causal .*{kind}ForCausalLM"
    ):
        saved(tmp_path, kind, state_size=8, attention_hidden_size=32)


def test_a_sliding_window_shorter_than_an_image_with_its_caption_is_refused(tmp_path: Path) -> None:
    """Packed captions have a mask of their own, in which the window would be lost without a word."""
    model = saved(tmp_path, "Mistral", sliding_window=16)
    model.require_window(16)
    with pytest.raises(PipelineError, match=r"attends to the last 16 positions .* have 17"):
        model.require_window(17)


def test_the_cache_keeps_the_models_sliding_window(tmp_path: Path) -> None:
    model = saved(tmp_path, "Mistral", sliding_window=16)
    words = model.embed(torch.arange(40).unsqueeze(0))  # [1, T, D_l]
    with torch.no_grad():
        own = model.model.base_model(inputs_embeds=words).last_hidden_state  # [1, T, D_l]
        cache = model.new_cache()
        steps = [model.next_hidden_states(step, cache) for step in words.split([30, *[1] * 10], dim=1)]
    assert torch.allclose(torch.cat(steps, dim=1), own, atol=1e-5)


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    model = saved(tmp_path, "Llama")
    before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    require_packable(model)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert model.state_dict().keys() == before[1].keys()
    assert all(torch.equal(value, before[1][name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
