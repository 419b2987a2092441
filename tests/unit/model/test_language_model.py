"""The frozen language model: what training takes of it is what the model itself does, or it is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipeline.errors import PipelineError
from pipeline.hardware.device import choose_placement
from pipeline.model.language_model import LanguageModel, load_language_model
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
    config = getattr(transformers, f"{kind}Config")(**SMALL, **changes)
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
