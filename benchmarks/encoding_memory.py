"""Peak memory of the stages that go through all images, for few and for many of them.

Each stage runs as its own command in a process of its own, on generated images of one colour and a tiny
encoder: what grows with the number of images is then all that differs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

# Nothing here imports torch: a process starts with the peak of the one that it was forked from.
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "prepare": ("-m", "stages.prepare"),
    "encode": ("-m", "stages.encode"),
    "verify": ("-m", "vlm", "features", "verify", "data/features.h5", "--images", "data/images.jsonl"),
}
_OF_A_FOLDER = 1000
_SIDE = 32


@click.command()
@click.option("--images", "counts", multiple=True, type=int, default=(1_000, 100_000), show_default=True)
@click.option(
    "--json", "output", type=click.Path(path_type=Path), default="benchmarks/results/encoding_memory.json"
)
def main(counts: tuple[int, ...], output: Path) -> None:
    """Peak memory of prepare, encode and `vlm features verify`, for few and for many images.

    \b
    Example: python -m benchmarks.encoding_memory --images 1000 --images 100000
    """
    rows = []
    click.echo(f"{'images':>8}  {'stage':<8} {'peak MB':>8} {'seconds':>8}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for row in _measure(Path(folder), count):
                rows.append(row)
                stage, peak, seconds = row["stage"], row["peak_memory_mb"], row["seconds"]
                click.echo(f"{count:>8}  {stage:<8} {peak:>8.0f} {seconds:>8.1f}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


def _measure(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(_save_project, folder, count).result()
    for stage, command in COMMANDS.items():
        start = time.perf_counter()
        peak = _peak_of(command, folder)
        yield {
            "images": count,
            "stage": stage,
            "peak_memory_mb": peak / 1e6,
            "seconds": time.perf_counter() - start,
        }


def _peak_of(command: tuple[str, ...], folder: Path) -> int:
    """Run a command in `folder` to its end; its peak memory in bytes."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed: {said[-2000:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _save_project(folder: Path, count: int) -> None:
    """params.yaml, a dataset of `count` images with a caption each, and a tiny encoder."""
    from PIL import Image
    from ruamel.yaml import YAML

    from benchmarks.models import save_tiny_clip

    yaml = YAML()
    params = yaml.load((ROOT / "profiles" / "sample.yaml").read_text(encoding="utf-8"))
    params["data"].update(source="jsonl", root="photos")
    clip = save_tiny_clip(folder / "clip")
    params["encoder"].update(name=str(clip), layer=-2, tokens="patches", grid=None)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    photos = folder / "photos"
    photos.mkdir()
    with (photos / "captions.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            name = f"{number // _OF_A_FOLDER:05}/{number:08}.png"
            if number % _OF_A_FOLDER == 0:
                (photos / name).parent.mkdir()
            # A colour of its own, so that no two files are equal.
            color = (number >> 16, number >> 8 & 255, number & 255)
            Image.new("RGB", (_SIDE, _SIDE), color).save(photos / name)
            split = "dev" if number == 0 else "test" if number == 1 else "train"
            row = {"image": name, "captions": [f"Number {number} of {count} colours."], "split": split}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
