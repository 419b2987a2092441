"""Encoding: images a second next to the encoder alone, or the peak memory of the stages by number of images.

The encoder alone: forward passes on pixels that are ready in memory. Reading alone: files to pixels, by as
many threads as encoding has. Together: what the encode stage does between loading the encoder and joining
the store. Where encoder and reading share the cores, both take longer than each alone: the limit is then
what is left of the encoder's rate when reading gets the processor time that it takes.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.common import print_rows, save_captions, save_clip
from pipeline.captions import ImageRecord, read_images
from pipeline.encoding.batches import load_pixels
from pipeline.encoding.encode import encode_locally
from pipeline.files.batched import batched
from pipeline.files.json_files import write_jsonl
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.hardware.memory import keep_freed_memory
from pipeline.params.loader import load_params
from pipeline.params.schema import EncoderParams, RuntimeParams
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder
from stages.errors import quiet_libraries, report_user_errors

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "profiles" / "sample.yaml"
COMMANDS = {
    "prepare": ("-m", "stages.prepare"),
    "encode": ("-m", "stages.encode"),
    "verify": ("-m", "vlm", "features", "verify", "data/features.h5", "--images", "data/images.jsonl"),
}
# Runs a command and prints its peak memory. A process starts with the peak of the one that it was forked
# from, so a small one stands between this one and the command.
_PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A folder in Flickr8k's layout.")
@click.option("--images", default=128, show_default=True, help="Images that are encoded in each round.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each measurement; medians are given.")
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--memory-of", "counts", multiple=True, type=int,
    help="Measure the stages' peak memory for this number of tiny images instead of speed.",
)  # fmt: skip
@report_user_errors
def main(photos: Path | None, images: int, rounds: int, device: str, counts: tuple[int, ...]) -> None:
    """Images a second in encoding, with CLIP ViT-B/32's dimensions and the sample's EfficientNet-Lite0.

    Without --photos generated scenes are encoded.

    \b
    Example: python -m benchmarks.encoding --photos /path/to/photos
    Example: python -m benchmarks.encoding --memory-of 1000 --memory-of 100000
    """
    quiet_libraries()
    keep_freed_memory()
    placement = choose_placement(device)
    if counts:
        print_rows([row for count in counts for row in _peaks(count)], placement)
        return
    sample = load_params(PROFILE)
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

    def forward() -> None:
        for pixels in ready:
            encoder.encode(pixels).cpu()

    def read() -> None:
        with ThreadPoolExecutor(runtime.num_workers) as threads:
            list(threads.map(lambda image: load_pixels(encoder, image).shape, images))

    def both() -> None:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            execution = Execution(choose_placement(runtime.device), runtime, work)
            for _ in encode_locally(images, len(images), Path(folder), encoder, execution):
                pass

    ways: tuple[Callable[[], None], ...] = (forward, read, both)
    forward()  # warms up
    seconds = np.empty((rounds, len(ways), 2))  # wall clock, processor
    for turn in range(rounds):
        for number, way in enumerate(ways):
            start, cpu = time.perf_counter(), time.process_time()
            way()
            seconds[turn, number] = time.perf_counter() - start, time.process_time() - cpu
    medians = (np.median(seconds, axis=0) / len(images)).tolist()
    (alone, _), (reading, reading_cpu), (together, _) = medians
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


def _peaks(count: int) -> Iterator[dict[str, Any]]:
    """Peak memory of each stage that goes through all images, each a command in a new process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save_project(folder, count)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for stage, command in COMMANDS.items():
            start = time.perf_counter()
            words = [sys.executable, "-c", _PEAK, sys.executable, *command]
            done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
            peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6
            seconds = time.perf_counter() - start
            yield {"images": count, "stage": stage, "peak MB": peak, "seconds": seconds}


def _save_project(folder: Path, count: int) -> None:
    """params.yaml, `count` images of one color with a caption each, and a tiny encoder.

    What grows with the number of images is then all that differs.
    """
    yaml = YAML()
    params = yaml.load(PROFILE.read_text(encoding="utf-8"))
    params["data"].update(source="jsonl", root="photos")
    clip = save_clip(
        folder / "clip", 32, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=2, patch_size=8,
    )  # fmt: skip
    params["encoder"].update(name=str(clip), layer=-2, tokens="patches", grid=None)
    yaml.dump(params, folder / "params.yaml")
    rows = []
    for number in range(count):
        name = f"{number // 1000:05}/{number:08}.png"
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Different colors, so that no two files are equal.
        Image.new("RGB", (32, 32), (number >> 16, number >> 8 & 255, number & 255)).save(path)
        split = "dev" if number == 0 else "test" if number == 1 else "train"
        rows.append({"image": name, "captions": [f"Number {number} of {count}."], "split": split})
    write_jsonl(folder / "photos" / "captions.jsonl", rows)


if __name__ == "__main__":
    main()
