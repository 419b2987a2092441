"""Captions a second in generation: our search against `transformers`' `generate`, one by one and batched.

On a trained checkpoint, so that captions end as captions do. How many captions are equal is counted, not
assumed: in float32 a product rounds differently with its shape, and a close choice can fall otherwise.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks import common
from benchmarks.common import PATCHES, VISION_WIDTH, benchmark
from pipeline.features.store import FeatureStore
from pipeline.hardware.device import choose_placement
from pipeline.model.checkpoints import load_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.model.generation import generate_candidates
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import GenerateParams

MAX_NEW_TOKENS = 40
Captions = list[tuple[int, ...]]


@benchmark
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path), required=False)
@click.argument("features", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--images", default=64, help="The last images of the store.")
@click.option("--beams", multiple=True, default=[1, 4])
@click.option("--device", default="cpu")
@click.option("--tiny", is_flag=True, help="Two layers instead of Llama-3.2-1B's dimensions.")
@click.option("--batch-size", default=64, help="Rows (images times beams) at a time.")
def main(
    checkpoint: Path | None,
    features: Path | None,
    images: int,
    beams: tuple[int, ...],
    device: str,
    tiny: bool,
    batch_size: int,
) -> None:
    """Captions a second in generation, against `generate` of `transformers`, one at a time and batched.

    Without a checkpoint, a Llama of random weights makes captions of 40 tokens from random features.

    \b
    Example: python -m benchmarks.generation data/best.safetensors data/features.h5
    Example: python -m benchmarks.generation --device cuda --images 256 --batch-size 256
    """
    placement = choose_placement(device)
    if checkpoint and features:
        model = FeatureCaptioner.load(load_checkpoint(checkpoint), placement, None).model
        with FeatureStore(features) as store:
            values = torch.from_numpy(store.read(list(store.image_ids)[-images:]))  # [n, P, D_v]
    else:
        with tempfile.TemporaryDirectory() as folder:
            _, llama = common.save_models(Path(folder), placement.device, tiny)
            model = common.random_captioner(common.profile("flickr8k"), llama, VISION_WIDTH, placement)
        values = torch.randn(images, PATCHES, VISION_WIDTH)
    ways = ("one at a time", "batched", "ours") if checkpoint else ("batched", "ours")
    common.print_rows(
        [row for width in beams for row in _compare(model, values, width, batch_size, ways)], placement
    )


def _compare(
    model: VisionLanguageModel, features: Tensor, beams: int, batch_size: int, names: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    params = GenerateParams(beams, MAX_NEW_TOKENS, length_penalty=1.0, no_repeat_ngram_size=0)
    ways: dict[str, Callable[[], Captions]] = {
        "one at a time": lambda: _generate(model, features, beams, 1),
        "batched": lambda: _generate(model, features, beams, batch_size // beams),
        "ours": lambda: [best.ids for best, *_ in generate_candidates(model, features, params, batch_size)],
    }
    _generate(model, features[:1], beams, 1)  # warms up
    alone, slowest = Captions(), 0.0
    for way in names:
        start = time.perf_counter()
        captions = ways[way]()
        rate = len(features) / (time.perf_counter() - start)
        alone, slowest = alone or captions, slowest or rate
        equal = sum(first == second for first, second in zip(captions, alone, strict=True))
        yield {"beams": beams, "way": way, "captions/s": rate, "times": rate / slowest, "equal": equal}


@torch.inference_mode()
def _generate(model: VisionLanguageModel, features: Tensor, beams: int, batch_size: int) -> Captions:
    """Captions by `transformers` alone, from the same prefix."""
    model.eval()
    ends = [model.prompt.eos, *sorted(model.language_model.end_ids - {model.prompt.eos})]
    captions: Captions = []
    for batch in torch.split(features.to(model.language_model.device), batch_size):
        prefix = model.embed_prefix(batch)  # [B, L, D_l]
        output = model.language_model.model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            do_sample=False,
            num_beams=beams,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=ends,
            pad_token_id=model.prompt.eos,
        )
        captions += [tuple(takewhile(lambda token: token not in ends, row)) for row in output.tolist()]
    return captions


if __name__ == "__main__":
    main()
