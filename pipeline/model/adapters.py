"""LoRA adapters: small trained matrices next to a language model's frozen linear layers (Hu et al. 2021).

The adapted layers are those of the PEFT library, which is imported only if lora.rank is above 0.

r: rank, D_in, D_out: widths of an adapted layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.files.differences import differences
from pipeline.model.language_model import LanguageModel
from pipeline.params.schema import LoraParams

# Tells the tensors of adapters from those of the projector, whose names start otherwise.
_PREFIX = "lora."
# PEFT's name of a layer's only adapter.
_NAME = "default"


class Adapters:
    """All adapters inside one language model, in the model's order; empty if it has no adapters.

    An adapted layer gives `W x + alpha / r * B A x`, where `W` is frozen and `A` `[r, D_in]` and `B`
    `[D_out, r]` are float32. `B` starts at zero: fresh adapters change nothing.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], dropouts: Sequence[nn.Module]) -> None:
        self._weights = dict(weights)
        self._dropouts = list(dropouts)

    def parameters(self) -> list[nn.Parameter]:
        """List the trained matrices."""
        return list(self._weights.values())

    def state_dict(self) -> dict[str, Tensor]:
        """Return the matrices, with names like `lora.model.layers.0.self_attn.q_proj.lora_A.weight`."""
        return {name: weight.detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load the matrices of the file `source`.

        Raises PipelineError where names or shapes are not exactly those of these adapters.
        """
        require_shapes(tensors, self._weights, source)
        for name, weight in self._weights.items():
            weight.copy_(tensors[name])

    def train(self, mode: bool) -> None:
        """Switch the adapters' dropout on or off; the frozen layers have none."""
        for dropout in self._dropouts:
            dropout.train(mode)


NO_ADAPTERS = Adapters({}, [])


def inject_adapters(language_model: LanguageModel, params: LoraParams) -> Adapters:
    """Add fresh adapters to a language model, in place; with rank 0 the model stays as it is.

    Raises PipelineError for a target that the model does not have.
    """
    if params.rank == 0:
        return NO_ADAPTERS
    # The head is not offered: most models share its weights with the word embeddings.
    layers = language_model.model.base_model.named_modules()
    names = {path.rsplit(".", 1)[-1] for path, layer in layers if isinstance(layer, nn.Linear)}
    unknown = [target for target in params.targets if target not in names]
    if unknown:
        raise PipelineError(
            f"lora.targets: {language_model.spec['name']} has no linear layer {unknown[0]}. "
            f"Use some of: {', '.join(sorted(names))}."
        )
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=list(params.targets),
        bias="none",
    )
    model = inject_adapter_in_model(config, language_model.model, _NAME).eval()
    # Everything else in the model is frozen.
    trained = [(path, weight) for path, weight in model.named_parameters() if weight.requires_grad]
    for _, weight in trained:
        # PEFT gives them the model's type, which is too coarse for an optimizer's small steps.
        weight.data = weight.data.float()
    weights = {_PREFIX + path.replace(f".{_NAME}.", "."): weight for path, weight in trained}
    return Adapters(weights, [m for path, m in model.named_modules() if path.endswith(".lora_dropout")])


def merge_adapters(
    weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor], params: LoraParams
) -> dict[str, Tensor]:
    """Return a language model's weights with a checkpoint's adapters added: `W + alpha / r * B A`.

    All are float32: rounding to a coarser type would lose what small adapters add. Raises PipelineError for
    an adapter of a layer that is not among the weights.
    """
    merged = {name: weight.float() for name, weight in weights.items()}
    for name, down in adapters.items():
        layer, part, _ = name.removeprefix(_PREFIX).rsplit(".", 2)
        if part != "lora_A":
            continue
        key = f"{layer}.weight"
        if key not in weights:
            raise PipelineError(f"The checkpoint has an adapter of {layer}, which the language model lacks.")
        up = adapters[f"{_PREFIX}{layer}.lora_B.weight"]
        change = params.alpha / params.rank * (up.float() @ down.float())  # [D_out, D_in]
        merged[key] = merged[key] + change  # not in place: `weights` stays as it is
    return merged


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a checkpoint's tensors into those of the projector and those of the adapters."""
    adapters = {name: value for name, value in state.items() if name.startswith(_PREFIX)}
    return {name: value for name, value in state.items() if name not in adapters}, adapters


def require_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Raise PipelineError unless the tensors of the file `source` have the expected names and shapes."""
    shapes, wanted = ({k: tuple(v.shape) for k, v in group.items()} for group in (tensors, expected))
    for name, shape, other in differences(shapes, wanted):
        raise PipelineError(
            f"The shape of {name} in {source} is {shape}, expected {other}. Fix: run `dvc repro train`."
        )


def adapter_spec(params: LoraParams) -> dict[str, Any] | None:
    """Return what a checkpoint says about its adapters; None if it has none."""
    if params.rank == 0:
        return None
    return {"rank": params.rank, "alpha": params.alpha, "targets": list(params.targets)}


def adapter_params(spec: Mapping[str, Any] | None) -> LoraParams:
    """Return the parameters to inject a checkpoint's adapters with, from its `adapter_spec`."""
    if spec is None:
        return LoraParams(rank=0, alpha=1.0, dropout=0.0, targets=())
    return LoraParams(spec["rank"], spec["alpha"], 0.0, tuple(spec["targets"]))
