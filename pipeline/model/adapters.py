"""LoRA adapters: small trained matrices beside the frozen linear layers of a language model (Hu et al. 2021).

The adapted layers are those of the PEFT library, which is imported only where adapters are asked for.

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

# Tells the tensors of adapters from those of the projector, which has no part of this name.
_PREFIX = "lora."
# PEFT lets a layer have several adapters and keys them by name; here there is one.
_NAME = "default"


class Adapters:
    """All adapters inside one language model, in the model's order; without any, empty.

    An adapted layer gives `W x + alpha / r * B A x`, where `W` is frozen and `A` `[r, D_in]` and `B`
    `[D_out, r]` are float32. `B` starts at zero: fresh adapters change nothing.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], dropouts: Sequence[nn.Module]) -> None:
        self._weights = dict(weights)
        self._dropouts = list(dropouts)

    def parameters(self) -> list[nn.Parameter]:
        """The trained matrices."""
        return list(self._weights.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The matrices, named like `lora.model.layers.0.self_attn.q_proj.lora_A.weight`."""
        return {name: weight.detach() for name, weight in self._weights.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take over the matrices of `source`, which errors name.

        Raises PipelineError where names or shapes are not exactly those of these adapters.
        """
        expected = {name: tuple(weight.shape) for name, weight in self._weights.items()}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if wrong := differences(found, expected):
            name, shape, wanted = wrong[0]
            raise PipelineError(
                f"{source} holds {shape or 'no tensor'} as {name}, but its facts about LoRA call for "
                f"{wanted or 'no tensor'} ({len(wrong)} such differences); run `dvc repro train`."
            )
        for name, weight in self._weights.items():
            weight.copy_(tensors[name])

    def train(self, mode: bool) -> None:
        """Switch the adapters' dropout on or off; that of the frozen layers stays off."""
        for dropout in self._dropouts:
            dropout.train(mode)


NO_ADAPTERS = Adapters({}, [])


def inject_adapters(language_model: LanguageModel, params: LoraParams) -> Adapters:
    """Put fresh adapters into a language model, in place; with rank 0 none.

    Raises PipelineError for a target that the model does not have.
    """
    return adapt(language_model.model, language_model.spec.name, params)


def adapt(causal_model: Any, name: str, params: LoraParams) -> Adapters:
    """The same for a causal model of `transformers`, which errors call `name`."""
    if params.rank == 0:
        return NO_ADAPTERS
    # Of the head nothing is offered: most models share its weights with the word embeddings.
    layers = causal_model.base_model.named_modules()
    names = {path.rsplit(".", 1)[-1] for path, layer in layers if isinstance(layer, nn.Linear)}
    unknown = [target for target in params.targets if target not in names]
    if unknown:
        raise PipelineError(
            f"lora.targets names {unknown[0]}, but {name} has no linear layer of that name; it has "
            f"{', '.join(sorted(names))}."
        )
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=params.rank,
        lora_alpha=params.alpha,
        lora_dropout=params.dropout,
        target_modules=list(params.targets),
        bias="none",
    )
    model = inject_adapter_in_model(config, causal_model, _NAME).eval()
    # Everything else in the model is frozen.
    trained = [(path, weight) for path, weight in model.named_parameters() if weight.requires_grad]
    for _, weight in trained:
        # PEFT makes them of the type that the model computes in, too coarse for an optimizer's small steps.
        weight.data = weight.data.float()
    weights = {_PREFIX + path.replace(f".{_NAME}.", "."): weight for path, weight in trained}
    return Adapters(weights, [m for path, m in model.named_modules() if path.endswith(".lora_dropout")])


def merge_adapters(
    weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor], params: LoraParams
) -> dict[str, Tensor]:
    """A language model's weights with a checkpoint's adapters added in: `W + alpha / r * B A`.

    All in float32: rounding the sums to a coarser type would lose what small adapters add. Raises
    PipelineError for an adapter of a layer that is not among the weights.
    """
    merged = {name: weight.float() for name, weight in weights.items()}
    for name, down in adapters.items():
        layer, part, _ = name.removeprefix(_PREFIX).rsplit(".", 2)
        if part != "lora_A":
            continue
        key = f"{layer}.weight"
        if key not in weights:
            raise PipelineError(f"the checkpoint has an adapter of {layer}, which the language model lacks.")
        up = adapters[f"{_PREFIX}{layer}.lora_B.weight"]
        change = params.alpha / params.rank * (up.float() @ down.float())  # [D_out, D_in]
        merged[key] = merged[key] + change  # not in place: the weights given stay as they are
    return merged


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors as those of the projector and those of the adapters."""
    adapters = {name: value for name, value in state.items() if name.startswith(_PREFIX)}
    return {name: value for name, value in state.items() if name not in adapters}, adapters


def adapter_facts(params: LoraParams) -> dict[str, Any] | None:
    """What a checkpoint says about its adapters; None where there are none."""
    if params.rank == 0:
        return None
    return {"rank": params.rank, "alpha": params.alpha, "targets": list(params.targets)}


def adapter_params(facts: Mapping[str, Any] | None) -> LoraParams:
    """The parameters to inject a checkpoint's adapters with: those of `adapter_facts`, without dropout."""
    if facts is None:
        return LoraParams(rank=0, alpha=1.0, dropout=0.0, targets=())
    return LoraParams(facts["rank"], facts["alpha"], 0.0, tuple(facts["targets"]))
