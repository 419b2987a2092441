"""Our side of the training benchmark: features encoded once, then the training that a stage runs."""

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import HEAD_WEIGHTS, LAYER_WEIGHTS
from benchmarks.machine import print_figures
from benchmarks.models import LANGUAGE_MODEL, PATCHES
from pipeline.allocator import keep_freed_memory
from pipeline.device import choose_placement
from pipeline.encoding import encode_images
from pipeline.params import EncoderParams, Params
from pipeline.params_loader import load_params
from pipeline.prompt import CaptionTokenizer
from pipeline.token_store import read_tokens, tokenize_captions
from pipeline.training import train
from pipeline.training_outputs import TrainPaths

PROFILE = Path(__file__).parents[1] / "profiles" / "sample.yaml"


def measure(work: Path, batch_size: int) -> dict[str, Any]:
    """Encode and tokenize what lies in `work`, then train an epoch in a fresh folder.

    Captions a second are those behind the first step, in which the layers are compiled.
    """
    keep_freed_memory()
    params = _params(work, batch_size)
    placement = choose_placement("cpu")
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        start = time.perf_counter()
        features = folder / "features.h5"
        encode_images(
            work / "images.jsonl", features, folder / "encode", params.encoder, params.runtime, placement
        )
        encoding = time.perf_counter() - start
        tokens = folder / "tokens.h5"
        tokenizer = CaptionTokenizer(params.prompt, params.language_model)
        tokenize_captions(work / "captions.jsonl", tokens, tokenizer, params.prompt.max_caption_tokens)
        paths = TrainPaths(
            features=features,
            tokens=tokens,
            checkpoints=folder / "checkpoints",
            metrics=folder / "train.json",
            cost=folder / "cost.json",
            curve=folder / "training.csv",
            scratch=folder / "train",
        )
        train(
            paths,
            params.train,
            params.projector,
            params.language_model,
            params.lora,
            params.runtime,
            placement,
        )
        cost = json.loads(paths.cost.read_text())
        split = read_tokens(tokens, "train")
    captions = sum(map(len, split.captions))
    rate = cost["captions_per_second"]
    return {
        "captions_per_second": rate,
        "with_encoding_in_1_epoch": captions / (captions / rate + encoding),
        "with_encoding_in_5_epochs": 5 * captions / (5 * captions / rate + encoding),
        "encoding_seconds": encoding,
        "warm_up_seconds": cost["warm_up_seconds"],
        "peak_memory_mb": cost["peak_memory_mb"],
        "positions_per_caption": _positions(split) / captions,
        "gflop_per_caption": _flop(split) / captions / 1e9,
    }


def _params(work: Path, batch_size: int) -> Params:
    sample = load_params(PROFILE)
    return replace(
        sample,
        encoder=EncoderParams(str(work / "clip"), None, layer=-2, tokens="patches", grid=None),
        language_model=replace(sample.language_model, name=LANGUAGE_MODEL),
        train=replace(sample.train, epochs=1, batch_size=batch_size),
        runtime=replace(sample.runtime, compile="always"),
    )


def _positions(split: Any) -> int:
    prefix: int = split.prompt.prefix_length(PATCHES)
    return sum(prefix + sum(len(c) + 1 for c in captions) for captions in split.captions)


def _flop(split: Any) -> float:
    """Each position meets each layer weight, each label the head, forward and backward."""
    labels = sum(len(c) + 1 for captions in split.captions for c in captions)
    return 4.0 * (_positions(split) * LAYER_WEIGHTS + labels * HEAD_WEIGHTS)


if __name__ == "__main__":
    print_figures(measure(Path(sys.argv[1]), batch_size=int(sys.argv[2])))
