"""Images a second in encoding: reading, encoding and writing together, against the encoder alone.

The encoder alone: forward passes on pixels that are ready in memory. Reading alone: files to pixels, by as
many threads as encoding has. Together: what the encode stage does between loading the encoder and joining
the store. Where encoder and reading share the cores, both cannot be had in the time of one: the limit is then
what is left of the encoder's rate when reading gets the processor time that it takes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import models, task
from benchmarks.machine import describe
from pipeline.captions import ImageRecord, read_images
from pipeline.encoding.batches import batches_of, load_pixels
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.encoding.encode import encode_locally
from pipeline.files.json_files import write_json
from pipeline.hardware.device import choose_placement
from pipeline.hardware.memory import keep_freed_memory
from pipeline.params.loader import load_params
from pipeline.params.schema import EncoderParams, RuntimeParams
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder
from stages.errors import quiet_libraries, report_user_errors

PROFILE = Path(__file__).parents[1] / "profiles" / "sample.yaml"


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=128, show_default=True, help="So many images go through, each round.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each measurement; medians are given.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Threads that read images.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/encoding.json")
@report_user_errors
def main(
    photos: Path | None,
    images: int,
    rounds: int,
    batch_size: int,
    workers: int,
    device: str,
    output: Path,
) -> None:
    """Images a second in encoding, with CLIP ViT-B/32's dimensions and the sample's EfficientNet-Lite0.

    Without --photos generated scenes are encoded.

    \b
    Example: python -m benchmarks.encoding --photos ../shared/photos
    """
    quiet_libraries()
    keep_freed_memory()
    placement = choose_placement(device)
    sample = load_params(PROFILE)
    runtime = replace(
        sample.runtime,
        device=device,
        num_workers=workers,
        encode_batch_size=batch_size,
        encode_engine="local",
    )
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        task.save_captions(photos, images, work)
        listed = read_images(work / "images.jsonl")[:images]
        clip = str(models.save_clip(work / "clip"))
        for title, params in {
            "CLIP ViT-B/32 (random weights)": EncoderParams(clip, None, -2, "patches", None),
            "EfficientNet-Lite0": sample.encoder,
        }.items():
            encoder = load_encoder(params, placement.device)
            difference = _difference(encoder, listed, work / "clip") if params.name == clip else None
            rows.append(
                {
                    "encoder": title,
                    **_measure(encoder, listed, runtime, rounds, work),
                    "largest_difference": difference,
                }
            )
    write_json(output, {"machine": describe(placement), "rows": rows})
    _print(rows)


def _measure(
    encoder: ImageEncoder, images: list[ImageRecord], runtime: RuntimeParams, rounds: int, work: Path
) -> dict[str, Any]:
    ready = [
        torch.stack([load_pixels(encoder, image) for image in batch])  # [B, 3, S, S]
        for batch in batches_of(images, runtime.encode_batch_size)
    ]
    ways: dict[str, Callable[[], None]] = {
        "forward": lambda: _forward(encoder, ready),
        "reading": lambda: _read(encoder, images, runtime.num_workers),
        "together": lambda: _encode(encoder, images, runtime, work),
    }
    _forward(encoder, ready[:1])  # warms up
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            run()
            seconds[way].append((time.perf_counter() - start) / len(images))
            busy[way].append((time.process_time() - cpu) / len(images))
    median = {way: statistics.median(values) for way, values in seconds.items()}
    reading_cpu = statistics.median(busy["reading"])
    cores = os.cpu_count() or 1
    shared = 0.0 if runtime.device.startswith("cuda") else reading_cpu / cores
    limit = 1 / max(median["forward"] + shared, median["reading"])
    return {
        **{f"{way}_per_second": 1 / value for way, value in median.items()},
        **{f"{way}_spread": (max(v) - min(v)) / median[way] for way, v in seconds.items()},
        "reading_cpu_ms": 1000 * reading_cpu,
        "share_of_forward": median["forward"] / median["together"],
        "limit_per_second": limit,
        "share_of_limit": 1 / median["together"] / limit,
    }


def _forward(encoder: ImageEncoder, batches: list[Tensor]) -> None:
    for pixels in batches:
        encoder.encode(pixels).cpu()


def _read(encoder: ImageEncoder, images: list[ImageRecord], workers: int) -> None:
    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(lambda image: load_pixels(encoder, image), images):
            pass


def _encode(encoder: ImageEncoder, images: list[ImageRecord], runtime: RuntimeParams, work: Path) -> None:
    with tempfile.TemporaryDirectory(dir=work) as folder, FeatureBlocks(Path(folder)) as blocks:
        encode_locally(images, len(images), blocks, encoder, runtime)


def _difference(encoder: ImageEncoder, images: list[ImageRecord], folder: Path) -> float:
    """The largest difference of a pixel to what `transformers` makes of the image as Pillow opens it."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    largest = 0.0
    for image in images:
        with Image.open(image.path) as picture:
            theirs = processor(images=picture.convert("RGB"), return_tensors="np")["pixel_values"][0]
        largest = max(largest, float(np.abs(load_pixels(encoder, image).numpy() - theirs).max()))
    return largest


def _print(rows: list[dict[str, Any]]) -> None:
    click.echo(
        f"{'images/s':<32}{'forward':>9}{'reading':>9}{'together':>10}{'of forward':>12}{'limit':>8}"
        f"{'of limit':>10}{'reading CPU':>13}{'difference':>12}"
    )
    for row in rows:
        difference = "" if row["largest_difference"] is None else f"{row['largest_difference']:g}"
        click.echo(
            f"{row['encoder']:<32}{row['forward_per_second']:>9.1f}{row['reading_per_second']:>9.1f}"
            f"{row['together_per_second']:>10.1f}{row['share_of_forward']:>12.1%}"
            f"{row['limit_per_second']:>8.1f}{row['share_of_limit']:>10.1%}"
            f"{row['reading_cpu_ms']:>10.1f} ms{difference:>12}"
        )


if __name__ == "__main__":
    main()
