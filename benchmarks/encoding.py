"""Encoding: images a second next to the encoder alone.

The encoder alone: forward passes on pixels that are ready in memory. Reading alone: files to pixels, by as
many threads as encoding has. Together: what the encode stage does between loading the encoder and joining
the store. Where encoder and reading share the cores, both take longer than each alone: the limit is then
what is left of the encoder's rate when reading gets the processor time that it takes.
"""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.common import benchmark, print_rows, profile, save_captions, save_clip
from pipeline.captions import ImageRecord, read_images
from pipeline.encoding.batches import load_pixels
from pipeline.encoding.encode import encode_locally
from pipeline.files.batched import batched
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import EncoderParams, RuntimeParams
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder


@benchmark
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=128, help="Images that are encoded in each round.")
@click.option("--rounds", default=5, help="Turns of each measurement; medians are given.")
@click.option("--device", default="auto")
def main(photos: Path | None, images: int, rounds: int, device: str) -> None:
    """Images a second in encoding, with CLIP ViT-B/32's dimensions and the sample's EfficientNet-Lite0.

    Without --photos generated scenes are encoded.

    \b
    Example: python -m benchmarks.encoding --photos /path/to/photos
    """
    placement = choose_placement(device)
    sample = profile("sample")
    runtime = replace(sample.runtime, device=device)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        save_captions(photos, images, work)
        listed = read_images(work / "images.jsonl")[:images]
        clip = EncoderParams(str(save_clip(work / "clip")), None, -2, "patches", None)
        for title, params in {"CLIP ViT-B/32": clip, "EfficientNet-Lite0": sample.encoder}.items():
            encoder = load_encoder(params, placement.device)
            rows.append({"images/s": title, **_rates(encoder, listed, runtime, rounds, work)})
    print_rows(rows, placement)


def _rates(
    encoder: ImageEncoder, images: list[ImageRecord], runtime: RuntimeParams, rounds: int, work: Path
) -> dict[str, float]:
    """Images a second of each way, the medians of the rounds, and how near `both` comes to its limit."""
    ready = [
        torch.stack([load_pixels(encoder, image) for image in batch])  # [B, 3, S, S]
        for batch in batched(images, int(runtime.encode_batch_size))
    ]

    execution = Execution(choose_placement(runtime.device), runtime, work)

    def forward() -> None:
        for pixels in ready:
            encoder.encode(pixels).cpu()

    def read() -> None:
        with ThreadPoolExecutor(runtime.num_workers) as threads:
            list(threads.map(lambda image: load_pixels(encoder, image).shape, images))

    def both() -> None:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            list(encode_locally(images, len(images), Path(folder), encoder, execution))

    forward()  # warms up
    seconds = []  # wall clock, processor
    for way in (forward, read, both) * rounds:
        start, cpu = time.perf_counter(), time.process_time()
        way()
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
    medians = np.median(np.reshape(seconds, (rounds, 3, 2)), axis=0) / len(images)
    (alone, _), (reading, reading_cpu), (together, _) = medians.tolist()
    shared = 0.0 if runtime.device.startswith("cuda") else reading_cpu / (os.cpu_count() or 1)
    limit = max(alone + shared, reading)
    return {
        "encoder alone": 1 / alone,
        "reading alone": 1 / reading,
        "both": 1 / together,
        "of the encoder": alone / together,
        "the limit": 1 / limit,
        "of the limit": limit / together,
        "ms of a core to read one": 1000 * reading_cpu,
    }


if __name__ == "__main__":
    main()
