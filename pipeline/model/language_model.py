"""The frozen language model, its weights in NF4 (bitsandbytes) or as they are.

B: batch, T: positions, M: positions that predict, D_l: width of the model, V: vocabulary.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.errors import PipelineError
from pipeline.hardware.device import Placement
from pipeline.hardware.memory import return_freed_memory
from pipeline.model.caption_loss import LABELS_AT_A_TIME, labels_that_fit
from pipeline.model.last_layer import LastLayer
from pipeline.model.probe import require_packable, same_at_some_positions
from pipeline.params.schema import LanguageModelParams
from pipeline.pretrained.pretrained import resolve_model, weights_digest

if TYPE_CHECKING:
    from transformers import Cache

_IDS_PER_CHUNK = 4096  # word embeddings that are measured at a time


class LanguageModel(nn.Module):
    """A frozen causal model of the `transformers` library; gradients pass through it, and none is stored.

    Attributes:
        spec: everything that the model's answers depend on, as JSON values: the section `language_model` of
            params.yaml, and `weights` (SHA-256), `dtype` and `end_ids`.
        end_ids: the tokens that end the model's answers, in addition to the tokenizer's EOS.
        is_compiled: whether `compile_layers` was called.
        labels_at_a_time: how many labels' logits exist at a time in training.
        most_images: images that captions were generated of at a time without running out of memory.
    """

    def __init__(self, model: Any, spec: dict[str, Any]) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.spec = spec
        self.width: int = model.config.hidden_size
        self.vocabulary: int = model.config.vocab_size
        self.end_ids = frozenset(spec["end_ids"])
        # Counted by shape: in NF4 two weights share a stored value.
        self.layer_weights = sum(
            m.in_features * m.out_features for m in model.base_model.modules() if isinstance(m, nn.Linear)
        )
        self.labels_at_a_time = LABELS_AT_A_TIME
        self.most_images = 1 << 30
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
            self.labels_at_a_time = labels_that_fit(memory, self.vocabulary)
        self.is_compiled = False
        self._last_layer: LastLayer | None = None

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = self.model.device
        return device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids `[..]` -> word embeddings `[.., D_l]`."""
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    def embedding_norm(self) -> float:
        """Return the mean Euclidean norm of `embed`'s word embeddings (some models scale theirs)."""
        ids = torch.split(torch.arange(self.vocabulary, device=self.device), _IDS_PER_CHUNK)
        return sum(float(self.embed(chunk).float().norm(dim=1).sum()) for chunk in ids) / self.vocabulary

    def hidden_states(
        self, embeddings: Tensor, mask: Tensor, positions: Tensor, predicting: Tensor | None = None
    ) -> Tensor:
        """Embeddings `[B, T, D_l]` -> last hidden states `[B, T, D_l]`, or `[M, D_l]` of those that predict.

        Args:
            embeddings: `[B, T, D_l]`, the words and image tokens.
            mask: `[B, 1, T, T]`, true where a position (row) may attend to another (column).
            positions: `[B, T]`, the position ids, not necessarily 0 to T - 1.
            predicting: `[M]`, indices into the B·T positions whose hidden states are wanted; None: all.
        """
        # Attention kernels would convert a mask of bits to this one in every layer.
        bias = torch.zeros_like(mask, dtype=embeddings.dtype).masked_fill(~mask, -math.inf)  # [B, 1, T, T]
        # The compiler makes separate code for a batch of one, which an epoch's last row is not worth.
        stance = "force_eager" if len(embeddings) == 1 else "default"
        last = self._last_layer
        with torch.compiler.set_stance(stance), last.only_at(predicting) if last else nullcontext():
            output = self.model.base_model(
                inputs_embeds=embeddings, attention_mask=bias, position_ids=positions, use_cache=False
            )
        hidden: Tensor = output.last_hidden_state
        if predicting is None:
            return hidden
        return hidden[0] if last else hidden.flatten(0, 1)[predicting]

    def shorten_last_layer(self) -> None:
        """Compute the last layer only where it predicts, if its parts have names that are known.

        A probe compares the two ways; a layer that computes otherwise stays whole.
        """
        layer = decoder_layers(self.model)[-1]
        whole = layer.forward
        try:
            self._last_layer = LastLayer(layer)
            shortened = same_at_some_positions(self)
        except (AttributeError, LookupError, RuntimeError, StopIteration, TypeError, ValueError):
            shortened = False
        if not shortened:
            self._last_layer, layer.forward = None, whole

    def next_hidden_states(self, embeddings: Tensor, cache: "Cache", mask: Tensor | None = None) -> Tensor:
        """Embeddings `[B, T, D_l]` of the positions after those in `cache` -> last hidden states.

        The cache, of the same B rows, grows by T positions. `mask` `[B, ..]` is false at those of all
        positions that are padding: nothing attends to them, and position ids do not count them.
        """
        padding = {}
        if mask is not None:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embeddings.shape[1] :]
            padding = {"attention_mask": mask, "position_ids": positions}
        output = self.model.base_model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=True, **padding
        )
        hidden: Tensor = output.last_hidden_state  # [B, T, D_l]
        return hidden

    def checkpoint_layers(self) -> None:
        """Store only each layer's input for the backward pass, and compute the rest again there.

        The last layer keeps everything: it would be computed again at once.
        """
        for layer in decoder_layers(self.model)[:-1]:
            layer.forward = _checkpointed(layer.forward)

    def compile_layers(self) -> None:
        """Compile the decoder layers for training: operations between matrix products become one loop.

        The code serves batches of any size and length. Results change only by rounding: dropout draws the
        numbers that it draws without compilation. A layer that the compiler refuses is computed as it is.
        """
        from torch._dynamo import config as dynamo
        from torch._inductor import config as inductor

        inductor.fallback_random = True
        dynamo.suppress_errors = True
        self.is_compiled = True
        *layers, last = decoder_layers(self.model)
        for part in (*layers, *(self._last_layer.parts if self._last_layer else [last])):
            part.compile(dynamic=True)

    def new_cache(self) -> "Cache":
        """Make the empty key-value cache that the model's own configuration asks for."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def require_window(self, positions: int) -> None:
        """Raise PipelineError if a sliding window is shorter than an image with its longest caption.

        The mask of packed captions replaces the model's window.
        """
        windows = [
            layer.sliding_window for layer in self.new_cache().layers if getattr(layer, "is_sliding", False)
        ]
        if windows and min(windows) < positions:
            raise PipelineError(
                f"{self.spec['name']} attends to the last {min(windows)} positions in some layers, but an "
                f"image and its longest caption have {positions}. Fix: choose another language_model.name, "
                "or an encoder with fewer tokens."
            )

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `[.., D_l]` -> logits `[.., V]`, float32."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits.float()


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    # A function: the compiler silently skips a `partial`.
    def compute_again(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return compute_again


def decoder_layers(model: Any) -> nn.ModuleList:
    """Find the layers of a causal model of `transformers`."""
    lists = (module for module in model.base_model.modules() if isinstance(module, nn.ModuleList))
    return next(layers for layers in lists if len(layers) == model.config.num_hidden_layers)


def load_language_model(
    params: LanguageModelParams, placement: Placement, model_cache: Path | None = None
) -> LanguageModel:
    """Load the model that `params` name onto `placement`.

    Raises PipelineError when it is not available, is not a causal model, cannot be quantized there, or cannot
    be trained on packed captions.
    """
    from bitsandbytes.nn.modules import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    placement.require_quantization(params.quantization)
    folder = resolve_model(params.name, params.revision, model_cache)
    options: dict[str, Any] = {"dtype": placement.dtype}
    if params.quantization == "nf4":
        # Embedding and head stay unquantized (transformers' default), since they tell words apart. Without
        # a compute type bitsandbytes takes float32, which is slow on CUDA.
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
            f"{params.name} cannot be loaded as a causal language model ({' '.join(str(error).split())}). "
            "Fix: choose another language_model.name."
        ) from error
    return_freed_memory()  # of the weights before they were quantized
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # Where a CPU has bfloat16, bitsandbytes would compute passes without gradient in it, and reorder
            # the weights so that no gradient passes afterwards.
            module.support_avx512bf16_for_cpu = False
    # Instruction models have several: the end of a text, of a turn, ...
    end_ids = model.generation_config.eos_token_id if model.can_generate() else None
    spec = {
        **asdict(params),
        "weights": weights_digest(folder),
        "dtype": str(placement.dtype).removeprefix("torch."),
        "end_ids": [end_ids] if isinstance(end_ids, int) else sorted(set(end_ids or [])),
    }
    language_model = LanguageModel(model, spec)
    require_packable(language_model)
    language_model.shorten_last_layer()
    return language_model
