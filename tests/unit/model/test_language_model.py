"""The frozen language model: training uses what the model itself computes, or the model is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.model.language_model import LanguageModel, decoder_layers
from pipeline.model.packing import pack
from tests.refusals import refusal
from tests.tiny_llama import load_llama

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def saved(folder: Path, kind: str, **changes: Any) -> LanguageModel:
    """Save a small random model of an architecture, and load it as training does."""
    torch.manual_seed(0)
    text = "Text" if kind in ("Gemma3", "Qwen3_5") else ""
    config = getattr(transformers, f"{kind}{text}Config")(**SMALL, **changes)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    (folder / "tokenizer.json").touch()
    return load_llama(folder)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma"])
def test_logits_and_the_norm_of_embeddings_are_the_models_own(tmp_path: Path, kind: str) -> None:
    """Gemma multiplies its embeddings by the square root of its width."""
    model = saved(tmp_path, kind)
    ids = torch.tensor([[1, 5, 9]])
    with torch.inference_mode():
        own = model.model(input_ids=ids).logits
        ours = model.logits(model.model.base_model(input_ids=ids).last_hidden_state)
    assert torch.equal(own, ours)
    expected = model.embed(torch.arange(96)).norm(dim=1).mean()
    assert model.embedding_norm() == pytest.approx(float(expected), rel=1e-5)


def test_nf4_computes_in_float32_on_every_cpu_with_a_gradient_or_without(tiny_llama: Path) -> None:
    """On a CPU with bfloat16, bitsandbytes would use it for passes without gradient."""
    model = load_llama(tiny_llama, "nf4")
    words = model.embed(torch.tensor([[1, 5, 9]]))  # [1, T, D_l]

    def logits_and_gradient() -> tuple[Tensor, Tensor]:
        inputs = words.detach().requires_grad_()
        logits = model.model(inputs_embeds=inputs).logits
        return logits.detach(), *torch.autograd.grad(logits.sum(), inputs)

    expected = logits_and_gradient()
    with torch.no_grad():
        without = model.model(inputs_embeds=words).logits
    assert torch.allclose(without, expected[0], rtol=1e-5, atol=1e-5)
    # A pass without gradient does not change the passes with one either.
    assert all(torch.equal(*values) for values in zip(logits_and_gradient(), expected, strict=True))


CANNOT_LOAD, MIXES = "cannot be loaded as a causal", "mixes captions that share a sequence"
LINEAR = {"num_key_heads": 2, "num_value_heads": 2, "key_head_dim": 8, "value_head_dim": 8}
STATES = {"d_ssm": 32, "n_heads": 4, "d_head": 8, "d_state": 8, "n_groups": 1, "chunk_size": 4}
QWEN = {f"linear_{name}": value for name, value in LINEAR.items()}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("Granite", {"logits_scaling": 8.0}, "scales or caps its logits"),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}, MIXES),
        ("Qwen3_5", {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], **QWEN}, MIXES),
        ("FalconH1", {f"mamba_{name}": value for name, value in STATES.items()}, MIXES),
        ("RecurrentGemma", {"lru_width": 32, "attention_window_size": 8}, MIXES),
        ("Mamba", {"state_size": 8}, CANNOT_LOAD),
    ],
)
def test_models_that_mix_packed_captions_are_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PipelineError, match=f"{kind}ForCausalLM.*{reason}|{reason}.*{kind}ForCausalLM"):
        saved(tmp_path, kind, **changes)


def test_a_model_of_experts_is_accepted(tmp_path: Path) -> None:
    assert saved(tmp_path, "Mixtral", num_local_experts=4, sliding_window=None).width == 32


@pytest.mark.parametrize(
    ("kind", "changes", "shortened"),
    [
        ("Llama", {}, True),
        ("Qwen2", {}, True),
        ("Qwen3", {"head_dim": 8}, True),
        ("Gemma3", {"head_dim": 8, "sliding_window": 16}, True),
        ("Phi", {}, True),
        ("GPTNeoX", {}, True),
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 1}, False),
    ],
)
def test_the_last_layer_computes_only_what_predicts_and_the_gradient_is_that_of_all_positions(
    tmp_path: Path, kind: str, changes: dict[str, Any], shortened: bool
) -> None:
    model = saved(tmp_path, kind, **changes)
    batch = pack([[[7, 8, 9], [10, 11]], [[12, 13]]], prefix_length=5)
    assert len(batch.predicting) == 6  # the prefix's last position predicts two captions
    words = torch.randn(*batch.owners.shape, 32, generator=torch.Generator().manual_seed(0))
    computed: list[int] = []
    linear = [m for m in decoder_layers(model.model)[-1].modules() if isinstance(m, torch.nn.Linear)][-1]
    linear.register_forward_hook(lambda _layer, _inputs, output: computed.append(output[..., 0].numel()))
    results = []
    for predicting in (batch.predicting, None):
        leaf = words.clone().requires_grad_()
        hidden = model.hidden_states(leaf, batch.mask, batch.positions, predicting)
        if predicting is None:
            hidden = hidden.flatten(0, 1)[batch.predicting]
        hidden.sin().sum().backward()
        results.append((hidden.detach(), leaf.grad))
    assert computed == [len(batch.predicting) if shortened else batch.owners.numel(), batch.owners.numel()]
    for ours, expected in zip(*results, strict=True):
        assert ours is not None
        assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_a_sliding_window_is_kept_by_the_cache_and_must_reach_over_a_caption(tmp_path: Path) -> None:
    """Packed captions have a mask in which the window would be lost silently."""
    model = saved(tmp_path, "Mistral", sliding_window=16)
    words = model.embed(torch.arange(40).unsqueeze(0))  # [1, T, D_l]
    with torch.no_grad():
        own = model.model.base_model(inputs_embeds=words).last_hidden_state  # [1, T, D_l]
        cache = model.new_cache()
        steps = [model.next_hidden_states(step, cache) for step in words.split([30, *[1] * 10], dim=1)]
    assert torch.allclose(torch.cat(steps, dim=1), own, atol=1e-5)
    model.require_window(16)
    refusal(model.require_window, 17, match=r"last 16 positions .* have 17")
