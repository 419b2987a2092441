"""Captions a second in training: this project against what a user would write with `transformers` alone.

The peer (benchmarks/peer.py): `LlavaForConditionalGeneration`, everything frozen but the projector, Hugging
Face `Trainer`, single captions, images processed in the data loader. Ours: features encoded once, all
captions of an image in one pass. Both with batches of several sizes, as they trade memory for speed. Same
frozen models (a random CLIP ViT-B/32, and SmolLM2-135M or a random Llama-3.2-1B in NF4), same photographs and
captions. Each turn is a new process, and the sides take turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from transformers import AutoConfig

from benchmarks import common, peer
from benchmarks.common import PATCHES, Figures, Task, benchmark, in_a_process, profile
from pipeline.encoding.encode import encode_images
from pipeline.files.json_files import read_json
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.memory import keep_freed_memory
from pipeline.params.schema import EncoderParams, Params
from pipeline.pretrained.pretrained import resolve_model
from pipeline.retrieval.retrieve import RetrievePaths, retrieve
from pipeline.text.prompt import CaptionTokenizer
from pipeline.text.token_store import read_tokens, tokenize_captions
from pipeline.training.outputs import TrainPaths
from pipeline.training.train import train

Side = tuple[Callable[..., Figures], tuple[Any, ...]]


@benchmark
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=96, help="Images that both sides take captions of.")
@click.option("--steps", default=12, help="Measured steps of the peer.")
@click.option("--rounds", default=2, help="Turns of each side.")
@click.option("--peer", "peers", multiple=True, default=[4], help="Captions of a step of the peer.")
@click.option(
    "--batch", "batches", multiple=True, default=["2x2", "4", "8", "16"],
    help="Images of a step of ours; 2x2: two, and two more before the optimizer steps.",
)  # fmt: skip
@click.option("--eager", is_flag=True, help="Ours also with layers that are not compiled.")
@click.option(
    "--model", type=click.Choice(["smollm2", "llama", "tiny"]), default="smollm2",
    help="llama: Llama-3.2-1B's dimensions; tiny: two layers, to try this program.",
)  # fmt: skip
@click.option("--gib", type=float, help="Memory of the GPU that a process may take.")
@click.option(
    "--to-loss", type=float, multiple=True, help="Both train an epoch; when is the loss of new captions this?"
)
@click.option("--similar", default=0, help="Captions of similar images in ours' prompt.")
@click.option(
    "--adapters", is_flag=True, help="Ours also trains the adapters of profiles/photos.yaml, at its rate."
)
@click.option("--seed", default=0, help="Of ours' first weights and order of images.")
@click.option("--dequantize", is_flag=True, help="Ours keeps its NF4 weights as plain ones.")
@click.option("--device", default="cpu")
def main(
    photos: Path | None,
    images: int,
    steps: int,
    rounds: int,
    peers: tuple[int, ...],
    batches: tuple[str, ...],
    eager: bool,
    model: str,
    **of_task: Any,
) -> None:
    """Captions a second in training, against LLaVA and Trainer of `transformers`.

    Without --photos both sides train on generated scenes. With --to-loss, one caption is as new as another to
    both: seconds count encoding, and not the start of the programs.

    \b
    Example: python -m benchmarks.training --photos /path/to/photos
    Example: python -m benchmarks.training --device cuda --model llama --peer 4 --peer 40
    """
    numbers = {batch: [int(number) for number in f"{batch}x1".split("x")[:2]] for batch in batches}
    placement = choose_placement(of_task["device"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clip, llama = common.save_models(work, placement.device, model == "tiny")
        task = Task(work, common.SMOLLM2 if model == "smollm2" else str(llama), **of_task)
        language = resolve_model(task.language_model, None, None)
        in_a_process(peer.save_llava, work / "llava", clip, language, placement.device)
        common.save_captions(photos, images, work)
        captions = sum(len(of_image) for _, of_image in common.training_pairs(work))
        encoding = in_a_process(encode, task) / captions
        sides: dict[str, Side] = {f"peer, {count}": (peer.measure, (count, steps)) for count in peers}
        for compiled in (True, False) if eager else (True,):
            side = "ours" if compiled else "ours, eager"
            sides |= {f"{side}, {batch}": (measure, (*size, compiled)) for batch, size in numbers.items()}
        runs: dict[str, list[Figures]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (function, sizes) in sides.items():
                try:
                    runs[side].append(in_a_process(function, task, *sizes))
                except torch.OutOfMemoryError:
                    click.echo(f"{side}: out of memory", err=True)
                    continue
                common.record({"side": side, **runs[side][-1]})
                click.echo(f"{side}: {runs[side][-1]['captions/s']:.2f} captions/s", err=True)
    rows = [_row(side, of_side, encoding, captions) for side, of_side in runs.items() if of_side]
    for row in rows:
        row["times"] = row["captions/s"] / rows[0]["captions/s"]
        row["of the peak"] = row["peak MB"] / rows[0]["peak MB"]
    common.print_rows(rows, placement)


def _row(side: str, runs: list[Figures], encoding: float, captions: int) -> dict[str, Any]:
    """The median of each figure over the turns of a side; `encoding`: seconds a caption, of all captions."""
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    # The peer encodes in each step.
    once = 0.0 if side.startswith("peer") else encoding
    row |= {key: seconds + once * captions for key, seconds in row.items() if key.startswith("s to ")}
    return {"side": side, **row, "captions/s with encoding": 1 / (1 / row["captions/s"] + once)}


def encode(task: Task) -> float:
    """Encode images, find neighbors, tokenize captions; returns the seconds of the first two."""
    keep_freed_memory()
    params = _params(task, batch_size=1, accumulation=1, compiled=False)
    execution = Execution(choose_placement(task.device), params.runtime, task.work / "encode")
    features, captions = task.work / "features.h5", task.work / "captions.jsonl"
    start = time.perf_counter()
    encode_images(task.work / "images.jsonl", features, params.encoder, execution)
    if task.similar:
        memory, neighbors = task.work / "memory.h5", task.work / "neighbors.h5"
        retrieve(RetrievePaths(features, captions, memory, neighbors), task.similar)
    seconds = time.perf_counter() - start
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    tokenize_captions(captions, task.work / "tokens.h5", tokenizer)
    return seconds


def measure(task: Task, batch_size: int, accumulation: int, compiled: bool) -> Figures:
    """Train an epoch from what `encode` left.

    Captions a second are those behind the first step, in which layers are compiled.
    """
    keep_freed_memory()
    params, placement = _params(task, batch_size, accumulation, compiled), task.placement()
    tokens = task.work / "tokens.h5"
    with tempfile.TemporaryDirectory(dir=task.work) as name:
        folder = Path(name)
        outputs = (folder / name for name in ("checkpoints", "train.json", "cost.json", "training.csv"))
        paths = TrainPaths(task.work / "features.h5", tokens, task.work / "neighbors.h5", *outputs)
        train(paths, params, Execution(placement, params.runtime, folder / "train"))
        cost = read_json(paths.cost)
        losses = [float(line.split(",")[2]) for line in paths.curve.read_text().splitlines()[1:]]
    split = read_tokens(tokens, "train")
    lengths = [[len(caption) + 1 for caption in captions] for captions in split.captions]
    prefix, labels = split.prompt.prefix_length(PATCHES), sum(map(sum, lengths))
    # Each position meets each layer weight, each label the head.
    config = AutoConfig.from_pretrained(resolve_model(task.language_model, None, None))
    flop = common.step_flop(
        config,
        positions=prefix * len(lengths) + labels,
        labels=labels,
        pairs=sum(common.packed_pairs(prefix, captions) for captions in lengths),
        image_tokens=PATCHES * len(lengths),
    )
    rate, captions = cost["texts_per_second"], sum(map(len, lengths))
    row = common.figures(rate, cost["peak_memory_mb"], flop / captions, placement)
    return row | task.time_to_loss(losses, len(lengths) / len(losses), captions / rate / len(losses))


def _params(task: Task, batch_size: int, accumulation: int, compiled: bool) -> Params:
    base = profile("photos")
    train = replace(
        base.train,
        epochs=1,
        seed=task.seed,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        word_passes=0,  # the clock does not see them
    )
    runtime = replace(
        base.runtime,
        device=task.device,
        compile="always" if compiled else "never",
        dequantize="always" if task.dequantize else "never",
    )
    lora = base.lora
    if not task.adapters:
        # The projector alone, as LLaVA pretrains it, at the rate that is right for it.
        train, lora = replace(train, learning_rate=4e-3), replace(lora, rank=0)
    return replace(
        base,
        encoder=EncoderParams(str(task.work / "clip"), None, layer=-2, tokens="patches", grid=None),
        # Captions as they are, so that both sides' losses are of the same tokens.
        prompt=replace(base.prompt, similar_captions=task.similar, lowercase=False, strip_period=False),
        language_model=replace(base.language_model, name=task.language_model),
        lora=lora,
        train=train,
        runtime=runtime,
    )


if __name__ == "__main__":
    main()
