"""Calculated memory of a training step and times of the stages, for choosing a card and a batch.

Nothing is measured and no weight is loaded. Memory: the layers run once on the `meta` device, where tensors
have shapes and no values, and what autograd keeps for the backward pass is counted. Times: the least work
there is over what a card can do.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import click
import torch
from torch import Tensor, nn

from benchmarks.common import ENCODERS, llama_config, profile, step_flop, table, vision_flop
from pipeline.model.adapters import inject_adapters
from pipeline.model.caption_loss import LOGIT_BYTES, labels_that_fit
from pipeline.model.language_model import LanguageModel
from pipeline.model.projector import Projector
from pipeline.params.schema import Params

# Bytes of each card as it reports itself (a T4: 15 GiB), and the part of them that a profile may take by the
# estimate: what is left is for the desktop, and for what the estimate does not know.
CARDS = {8: 8 * 2**30, 16: 15 * 2**30}
ALLOWED = 0.9
PROFILES = {
    "flickr8k": 8,
    "flickr8k-lora": 8,
    "flickr8k-vit-l14": 8,
    "flickr8k-report": 8,
    "flickr8k-16gb": 16,
}
# What CUDA itself and its libraries take of a device, and the allocator's pieces that fit nothing.
_CUDA, _FRAGMENTATION = 600e6, 1.1
# A weight, its gradient, AdamW's two moments and its moving average, all in float32.
_BYTES_OF_A_TRAINED_VALUE = 5 * 4
_DTYPE = torch.bfloat16

# Tokens of an image's captions, ends included: as long as Flickr8k's in Llama's tokens, and the longest. The
# longest of the 1,000 test images has 104 words in its five captions, the longest single caption among them
# 34; these are a quarter more.
USUAL_IMAGE = (14, 14, 14, 14, 14)
LONGEST_IMAGE = (42, 22, 22, 22, 22)
_PROMPT, _SIMILAR = 13, 5  # tokens around the image, and those that introduce similar captions

# TFLOP/s by the makers (dense, float16 or bfloat16 products summed in float32; float32), and the part of them
# that is assumed to be reached. Reading images, decoding captions and loading models come on top.
_RATES = {"T4": (65.0, 8.1), "RTX 3070": (40.6, 20.3), "RTX 4060": (30.2, 15.1)}
_REACHED = 1 / 3
_IMAGES, _TRAIN_IMAGES = 8000, 6000


@click.command()
def main() -> None:
    """Print what a training step of batches and profiles takes of a card, and the times of the stages.

    \b
    Example: python -m benchmarks.calculated
    """
    click.echo("\n".join([batch_table(), profile_table(), time_table()]), nl=False)


def captions_of_a_row(params: Params, captions: Sequence[int] = LONGEST_IMAGE) -> Sequence[int]:
    """Those of an image's captions, given by their tokens, that a profile packs into one row."""
    together = params.train.captions_per_sequence
    return captions if together == "all" else captions[:together]


def step_memory(params: Params, captions: Sequence[int] = LONGEST_IMAGE, card: int = CARDS[8]) -> float:
    """Bytes that a step of a full batch takes at most, with Llama-3.2-1B's dimensions, CUDA's own included.

    `captions` has the tokens of the captions of each image in the batch, ends included; `card` is the
    memory of the card, by which the labels are chosen whose logits exist at a time.
    """
    from transformers import AutoModelForCausalLM

    patches, width = ENCODERS[params.encoder.name][:2]
    labels = sum(captions_of_a_row(params, captions))
    rows, config = params.train.batch_size, llama_config()
    positions = patches + _prompt_tokens(params) + labels
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=_DTYPE, attn_implementation="sdpa")
        projector = Projector(width, params.projector.hidden_size, config.hidden_size)
    language_model = LanguageModel(model, {"name": params.language_model.name, "end_ids": []})
    weights = _weights(model, params)
    with torch.device("meta"):
        adapters = inject_adapters(language_model, params.lora)
    # An adapted layer keeps its input in float32, with dropout a mask of it too.
    adapters.train(True)
    trained = sum(p.numel() for p in [*projector.parameters(), *adapters.parameters()])
    saved = _saved_bytes(model.base_model, rows, positions)
    if params.train.gradient_checkpointing:
        # Each layer's input, and at a time the inside of one.
        inputs = rows * positions * config.hidden_size * _DTYPE.itemsize
        saved = inputs * config.num_hidden_layers + saved / config.num_hidden_layers
    at_a_time = min(rows * labels, labels_that_fit(card, config.vocab_size))
    logits = at_a_time * config.vocab_size * LOGIT_BYTES
    return float(_FRAGMENTATION * (weights + _BYTES_OF_A_TRAINED_VALUE * trained + saved + logits) + _CUDA)


def _prompt_tokens(params: Params) -> int:
    prompt = params.prompt
    return _PROMPT + (_SIMILAR + prompt.similar_tokens if prompt.similar_captions else 0)


def _weights(model: Any, params: Params) -> float:
    layers = model.base_model.modules() if params.language_model.quantization == "nf4" else ()
    linear: list[int] = [layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear)]
    dense = int(sum(p.numel() for p in model.parameters())) - sum(linear)
    # Half a byte a weight, and for each block of 64 a scale: 32 bits, or 8 if it is quantized too.
    scale = (1 if params.language_model.double_quantization else 4) / 64
    # One layer's weights are dequantized at a time.
    return sum(linear) * (0.5 + scale) + (dense + max(linear, default=0)) * _DTYPE.itemsize


def _saved_bytes(layers: Any, rows: int, positions: int) -> float:
    """Bytes that autograd keeps of one forward pass, parameters aside."""
    weights = {p.untyped_storage()._cdata for p in layers.parameters()}
    saved: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The tensor is held, so that its storage's number is not given to another one.
        saved[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        shape = rows, positions, layers.config.hidden_size
        layers(
            inputs_embeds=torch.empty(shape, dtype=_DTYPE, requires_grad=True),
            attention_mask=torch.empty(rows, 1, positions, positions, dtype=torch.bool),
            position_ids=torch.empty(rows, positions, dtype=torch.long),
            use_cache=False,
        )
    return float(sum(size for number, (_, size) in saved.items() if number not in weights))


def batch_table() -> str:
    """GB of a step by batch, for captions of the usual length, without similar captions in the prompt."""
    base, rows = profile("flickr8k"), []
    base = replace(base, prompt=replace(base.prompt, similar_captions=0))
    for quantized, checkpointing in product((True, False), (False, True)):
        title = "NF4" if quantized else "unquantized"
        row = {"images in a batch": title + ", `gradient_checkpointing`" * checkpointing}
        language = replace(base.language_model, quantization="nf4" if quantized else "none")
        for size in (2, 4, 8, 16, 32):
            train = replace(base.train, batch_size=size, gradient_checkpointing=checkpointing)
            taken = step_memory(replace(base, language_model=language, train=train), USUAL_IMAGE)
            row[str(size)] = f"{taken / 1e9:.1f}"
        rows.append(row)
    return table(rows)


def profile_table() -> str:
    """GB of a step of each profile for the longest image, and the share of its card."""
    rows = []
    for name, card in PROFILES.items():
        params = profile(name)
        size = step_memory(params, card=CARDS[card])
        rows.append(
            {
                "profile": f"`{name}`",
                "images at once": params.train.batch_size,
                "tokens an image": ENCODERS[params.encoder.name][0],
                "GB at most": f"{size / 1e9:.1f}",
                "of a card of": f"{card} GB, {100 * size / CARDS[card]:.0f} %",
            }
        )
    return table(rows)


def time_table() -> str:
    """The time of encoding, in float32 on every card, and of an epoch of training."""
    works = {
        "`encode`, ViT-B/32": _encode_flop(profile("flickr8k")),
        "`encode`, ViT-L/14": _encode_flop(profile("flickr8k-vit-l14")),
        "an epoch of `flickr8k`, `-16gb`, `-lora`": _epoch_flop(profile("flickr8k")),
        "an epoch of `flickr8k-vit-l14`": _epoch_flop(profile("flickr8k-vit-l14")),
        "an epoch of `flickr8k-report`": _epoch_flop(profile("flickr8k-report")),
    }
    rows = []
    for name, flop in works.items():
        row = {"calculated": name, "work": f"{flop / 1e15:.2f} PFLOP"}
        for card, (half, single) in _RATES.items():
            seconds = flop / (1e12 * _REACHED * (single if "encode" in name else half))
            row[card] = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        rows.append(row)
    return table(rows)


def _encode_flop(params: Params) -> float:
    patches, width, layers, side = ENCODERS[params.encoder.name]
    # Hidden state n takes n layers.
    return _IMAGES * vision_flop(patches, width, params.encoder.layer % (layers + 1), side)


def _epoch_flop(params: Params) -> float:
    labels = sum(USUAL_IMAGE)
    prefixes = 1 if params.train.captions_per_sequence == "all" else len(USUAL_IMAGE)
    prefix = ENCODERS[params.encoder.name][0] + _prompt_tokens(params)
    return _TRAIN_IMAGES * step_flop(llama_config(), prefixes * prefix + labels, labels)


if __name__ == "__main__":
    main()
