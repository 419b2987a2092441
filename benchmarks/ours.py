"""Our side of the training benchmark: features encoded once, then the training that a stage runs."""

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.arithmetic import LanguageShape, packed_pairs
from benchmarks.machine import print_figures
from benchmarks.models import PATCHES
from benchmarks.task import Setting
from pipeline.encoding.encode import encode_images
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.memory import keep_freed_memory
from pipeline.params.loader import load_params
from pipeline.params.schema import EncoderParams, Params
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import TokenizedCaptions, read_tokens, tokenize_captions
from pipeline.training.outputs import TrainPaths
from pipeline.training.train import train

PROFILE = Path(__file__).parents[1] / "profiles" / "sample.yaml"


def encode(work: Path) -> float:
    """Encode the images and tokenize the captions that lie in `work`; returns the seconds of encoding."""
    params = _params(work, batch_size=1, accumulation=1, compiled=False)
    start = time.perf_counter()
    encode_images(
        work / "images.jsonl",
        work / "features.h5",
        params.encoder,
        Execution(choose_placement(params.runtime.device), params.runtime, work / "encode"),
    )
    seconds = time.perf_counter() - start
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    tokenize_captions(
        work / "captions.jsonl", work / "tokens.h5", tokenizer, params.prompt.max_caption_tokens
    )
    return seconds


def measure(work: Path, batch_size: int, accumulation: int, compiled: bool) -> dict[str, Any]:
    """Train an epoch from what `encode` left.

    Captions a second are those behind the first step, in which layers are compiled.
    """
    params = _params(work, batch_size, accumulation, compiled)
    tokens = work / "tokens.h5"
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        paths = TrainPaths(
            features=work / "features.h5",
            tokens=tokens,
            checkpoints=folder / "checkpoints",
            metrics=folder / "train.json",
            cost=folder / "cost.json",
            curve=folder / "training.csv",
        )
        train(
            paths,
            params,
            Execution(choose_placement(params.runtime.device), params.runtime, folder / "train"),
        )
        cost = json.loads(paths.cost.read_text())
    split = read_tokens(tokens, "train")
    captions = sum(map(len, split.captions))
    return {
        "captions_per_second": cost["captions_per_second"],
        "peak_memory_mb": cost["peak_memory_mb"],
        "positions_per_caption": _positions(split) / captions,
        "gflop_per_caption": _flop(split, Setting.load(work).shape) / captions / 1e9,
        "warm_up_seconds": cost["warm_up_seconds"],
    }


def _params(work: Path, batch_size: int, accumulation: int, compiled: bool) -> Params:
    sample, setting = load_params(PROFILE), Setting.load(work)
    training = replace(
        sample.train, epochs=1, batch_size=batch_size, gradient_accumulation_steps=accumulation
    )
    return replace(
        sample,
        encoder=EncoderParams(str(work / "clip"), None, layer=-2, tokens="patches", grid=None),
        language_model=replace(sample.language_model, name=setting.language_model),
        train=training,
        runtime=replace(sample.runtime, device=setting.device, compile="always" if compiled else "never"),
    )


def _lengths(split: TokenizedCaptions) -> list[list[int]]:
    return [[len(caption) + 1 for caption in captions] for captions in split.captions]


def _positions(split: TokenizedCaptions) -> int:
    prefix = split.prompt.prefix_length(PATCHES)
    return sum(prefix + sum(captions) for captions in _lengths(split))


def _flop(split: TokenizedCaptions, shape: LanguageShape) -> float:
    """Each position meets each layer weight, each label the head, forward and backward."""
    prefix = split.prompt.prefix_length(PATCHES)
    lengths = _lengths(split)
    return (
        shape.layers_flop(_positions(split))
        + shape.head_flop(sum(map(sum, lengths)))
        + shape.attention_flop(sum(packed_pairs(prefix, captions) for captions in lengths))
        + len(lengths) * shape.projector_flop(PATCHES)
    )


if __name__ == "__main__":
    keep_freed_memory()
    if sys.argv[2] == "encode":
        click.echo(json.dumps({"encoding_seconds": encode(Path(sys.argv[1]))}))
    else:
        folder, size, accumulated, compile_layers = sys.argv[1:]
        figures = measure(Path(folder), int(size), int(accumulated), compile_layers == "compiled")
        print_figures(figures, choose_placement(Setting.load(Path(folder)).device))
