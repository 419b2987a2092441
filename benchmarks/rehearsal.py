"""The real run at its full size with nothing downloaded: each stage timed, on drawn scenes and random models.

CLIP ViT-B/32 and Llama-3.2-1B in their exact dimensions with random weights: time and memory are those of the
real run, but for captions, which mean nothing and may all be as long as the limit allows: `evaluate` and
`regions` then take up to three times as long as they would. The stages run one after the other, without DVC.
With `--tiny`, only what grows with the number of images is left.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import click
from ruamel.yaml import YAML

from benchmarks.common import benchmark, print_rows, save_models
from pipeline.hardware.device import choose_placement

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("prepare", "encode", "retrieve", "tokenize", "train", "evaluate", "regions", "report")
# Runs a command and prints its peak memory. A process starts with the peak of the one that it was forked
# from, so a small one stands between this one and the command.
_PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


@benchmark
@click.option("--work", required=True, type=click.Path(path_type=Path), help="A folder, made here.")
@click.option("--images", default=8000)
@click.option("--profile", default="flickr8k", help="Of the folder profiles/.")
@click.option("--device", default="auto")
@click.option("--workers", default=4, help="runtime.num_workers")
@click.option("--tiny", is_flag=True, help="Models of two layers instead.")
@click.option("--until", default="report", type=click.Choice(STAGES), help="The last stage.")
def main(work: Path, images: int, profile: str, device: str, workers: int, tiny: bool, until: str) -> None:
    """Run a profile at full size on random models, and print what each stage took.

    \b
    Example: python -m benchmarks.rehearsal --work ../rehearsal
    Example: python -m benchmarks.rehearsal --work ../tiny --tiny --images 100000 --until encode
    """
    if work.exists():
        raise click.UsageError(f"{work} is there already; give another --work, or delete it.")
    placement, project = choose_placement(device), work.resolve() / "project"
    project.mkdir(parents=True)
    clip, llama = save_models(work.resolve(), placement.device, tiny)
    yaml = YAML()
    params = yaml.load(ROOT / "profiles" / f"{profile}.yaml")
    params["data"].update(source="scenes", root="scenes")
    held_out = max(1, images // 8)
    params["data"]["scenes"].update(train=images - 2 * held_out, dev=held_out, test=held_out)
    params["encoder"].update(name=str(clip), revision=None)
    params["language_model"].update(name=str(llama), revision=None)
    params["train"]["epochs"] = 1
    params["runtime"].update(device=device, num_workers=workers)
    yaml.dump(params, project / "params.yaml")
    rows, environment = [], {**os.environ, "PYTHONPATH": str(ROOT)}
    for stage in STAGES[: STAGES.index(until) + 1]:
        start = time.perf_counter()
        words = [sys.executable, "-c", _PEAK, sys.executable, "-m", f"stages.{stage}"]
        done = subprocess.run(words, cwd=project, env=environment, stdout=subprocess.PIPE, check=True)
        peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6
        rows.append({"stage": stage, "seconds": time.perf_counter() - start, "peak MB": peak})
    print_rows(rows, placement)


if __name__ == "__main__":
    main()
