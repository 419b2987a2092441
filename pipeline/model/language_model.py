"""The frozen language model, its weights in NF4 (bitsandbytes) or as they are.

B: batch, T: positions, D_l: width of the model, V: vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.memory import return_freed_memory
from pipeline.model.probe import require_packable
from pipeline.params.schema import LanguageModelParams
from pipeline.pretrained.pretrained import resolve_model, weights_digest

if TYPE_CHECKING:
    from transformers import Cache

_IDS = 4096  # word embeddings that are measured at a time


@dataclass(frozen=True)
class LanguageModelSpec:
    """Every fact that the model's answers depend on."""

    name: str
    revision: str | None
    weights: str  # SHA-256 of the weights
    quantization: str
    double_quantization: bool
    dtype: str
    end_ids: tuple[int, ...]  # tokens that end its answers, beside the one that is supervised

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {**asdict(self), "end_ids": list(self.end_ids)}


class LanguageModel(nn.Module):
    """A causal model of the `transformers` library, frozen: gradients pass through it, none stay."""

    def __init__(self, model: Any, spec: LanguageModelSpec) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.spec = spec
        self.width: int = model.config.hidden_size
        self.vocabulary: int = model.config.vocab_size
        self.end_ids = frozenset(spec.end_ids)
        # Counted by shape: in NF4 two weights share a stored value.
        self.layer_weights = sum(
            m.in_features * m.out_features for m in model.base_model.modules() if isinstance(m, nn.Linear)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids `[..]` -> word embeddings `[.., D_l]`."""
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    def embedding_norm(self) -> float:
        """Mean Euclidean norm of a word embedding."""
        # As `embed` gives them: some models scale theirs.
        ids = torch.split(torch.arange(self.vocabulary, device=self.device), _IDS)
        return sum(float(self.embed(some).float().norm(dim=1).sum()) for some in ids) / self.vocabulary

    def hidden_states(self, embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Embeddings `[B, T, D_l]` -> last hidden states `[B, T, D_l]`.

        Args:
            embeddings: what the positions hold.
            mask: `[B, 1, T, T]`, true where the row's position may attend to the column's.
            positions: `[B, T]`, the position ids (rotary angles), not necessarily 0 to T - 1.
        """
        # As attention kernels take it: they would turn the mask of bits into this one in every layer.
        bias = torch.zeros_like(mask, dtype=embeddings.dtype).masked_fill(~mask, -math.inf)  # [B, 1, T, T]
        # The compiler makes other code for a batch of one: not worth its time for an epoch's last row.
        stance = "force_eager" if len(embeddings) == 1 else "default"
        with torch.compiler.set_stance(stance):
            output = self.model.base_model(
                inputs_embeds=embeddings, attention_mask=bias, position_ids=positions, use_cache=False
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def next_hidden_states(self, embeddings: Tensor, cache: "Cache") -> Tensor:
        """Embeddings `[B, T, D_l]` of the positions behind those in `cache` -> last hidden states.

        The cache, of the same B rows, grows by T positions.
        """
        output = self.model.base_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        hidden: Tensor = output.last_hidden_state  # [B, T, D_l]
        return hidden

    def checkpoint_layers(self) -> None:
        """Keep each layer's input alone for the backward pass, and compute the rest of it there again."""
        for layer in decoder_layers(self.model):
            layer.forward = _checkpointed(layer.forward)

    def compile_layers(self) -> None:
        """Compile the decoder layers for training: what lies between two matrix products becomes one loop.

        For batches of any size and length. Results change by rounding alone: what is dropped out is drawn
        as layers that are not compiled draw it.
        """
        from torch._inductor import config as inductor

        inductor.fallback_random = True
        for layer in decoder_layers(self.model):
            layer.compile(dynamic=True)

    def new_cache(self) -> "Cache":
        """Make the empty key-value cache that the model's own configuration asks for."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def require_window(self, positions: int) -> None:
        """PipelineError where a layer's sliding window is shorter than an image with its longest caption.

        Packed captions have a mask of their own, which takes the place of the model's window.
        """
        windows = [
            layer.sliding_window for layer in self.new_cache().layers if getattr(layer, "is_sliding", False)
        ]
        if windows and min(windows) < positions:
            raise PipelineError(
                f"{self.spec.name} attends to the last {min(windows)} positions in some layers, but an image "
                f"and its longest caption have {positions}. Fix: choose another language_model.name, or an "
                "encoder with fewer tokens."
            )

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `[.., D_l]` -> logits `[.., V]`, float32."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits.float()


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    # A function of its own: the compiler passes over a `partial` without a word.
    def computed_twice(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return computed_twice


def decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of a causal model of `transformers`, wherever they lie. Raises LookupError for none."""
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return module
    raise LookupError(f"no list of {model.config.num_hidden_layers} layers in a {type(model).__name__}")


def _end_ids(model: Any) -> frozenset[int]:
    """The tokens that end its answers. Instruction models have several: the end of a text, of a turn, ..."""
    ids = model.generation_config.eos_token_id if model.can_generate() else None
    return frozenset([ids] if isinstance(ids, int) else ids or [])


def _compute_as_told(model: Any) -> None:
    """Keep NF4 layers in the type they were given, on CPUs with bfloat16 instructions as on others.

    Where no gradient is wanted, bitsandbytes computes in bfloat16 there whatever it was told, and for that
    puts the weights into an order through which no gradient passes any more.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def load_language_model(
    params: LanguageModelParams, placement: Placement, model_cache: Path | None = None
) -> LanguageModel:
    """Load the model that `params` name onto `placement`.

    Raises PipelineError when it is not available, is not a causal model, cannot be quantized there, or cannot
    be trained on packed captions.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    placement.require_quantization(params.quantization)
    folder = resolve_model(params.name, params.revision, model_cache)
    options: dict[str, Any] = {"dtype": placement.dtype}
    if params.quantization == "nf4":
        # Embedding and head stay unquantized (transformers' default): they are what words are told
        # apart by. bitsandbytes computes in float32 unless told; that is slow on CUDA, silently.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=placement.dtype,
            bnb_4bit_use_double_quant=params.double_quantization,
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            device_map={"": placement.device},
            **options,
        )
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"{params.name} cannot be loaded as a causal language model: {' '.join(str(error).split())}"
        ) from error
    # The weights as they were before they were quantized.
    return_freed_memory()
    _compute_as_told(model)
    spec = LanguageModelSpec(
        name=params.name,
        revision=params.revision,
        weights=weights_digest(folder),
        quantization=params.quantization,
        double_quantization=params.double_quantization,
        dtype=str(placement.dtype).removeprefix("torch."),
        end_ids=tuple(sorted(_end_ids(model))),
    )
    loaded = LanguageModel(model, spec)
    require_packable(loaded)
    return loaded
