"""The real run at its full size with nothing downloaded: each stage timed, on photographs and random models.

CLIP ViT-B/32 and Llama-3.2-1B in their exact dimensions with random weights: time and memory are those of the
real run, but for captions, which mean nothing and may all be as long as the limit allows: `evaluate` and
`regions` then take up to three times as long as they would. Photographs are repeated, each time cut
otherwise, until there are as many as wanted. All that is written lies in one folder, a copy of the project in
it.
"""

import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from benchmarks.common import in_a_process, print_rows, save_clip, save_llama
from pipeline.captions import CaptionRecord
from pipeline.datasets.read import read_dataset
from pipeline.files.json_files import read_json, write_jsonl
from pipeline.hardware.device import choose_placement
from pipeline.images.images import crop, open_image
from pipeline.params.schema import DataParams, Limits, ScenesParams
from stages.errors import quiet_libraries, report_user_errors

PROJECT = Path(__file__).parents[1]
STAGES = ("prepare", "encode", "tokenize", "train", "evaluate", "regions", "report")
# What the stages are made of.
_COPIED = (".dvc/config", ".dvcignore", "dvc.yaml", "pipeline", "profiles", "stages", "vlm", "pyproject.toml")
# The part of each side that a cut keeps.
_KEPT = 0.85
_MEGAPIXELS = 50  # a larger photograph is refused


@click.command()
@click.option(
    "--photos", required=True, type=click.Path(exists=True, path_type=Path), help="In Flickr8k's layout."
)
@click.option("--work", required=True, type=click.Path(path_type=Path), help="The folder, made here.")
@click.option("--images", default=8000, show_default=True)
@click.option("--profile", default="flickr8k", show_default=True, help="Of the folder profiles/.")
@click.option("--epochs", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--workers", default=4, show_default=True, help="runtime.num_workers")
@report_user_errors
def main(photos: Path, work: Path, images: int, profile: str, epochs: int, device: str, workers: int) -> None:
    """Run a profile at full size on random models, and print what each stage took.

    \b
    Example: python -m benchmarks.rehearsal --photos /path/to/photos --work ../rehearsal
    """
    quiet_libraries()
    if work.exists():
        raise click.UsageError(f"{work} is there already; give another --work, or delete it.")
    placement = choose_placement(device)
    work.mkdir(parents=True)
    in_a_process(save_clip, work / "clip")
    in_a_process(save_llama, work / "llama", placement.device)
    project = work / "project"
    _copy_project(project)
    yaml, folder = YAML(), work.resolve()
    params = yaml.load(project / "profiles" / f"{profile}.yaml")
    params["data"].update(source="jsonl", root=str(folder / "photos"))
    params["encoder"].update(name=str(folder / "clip"), revision=None)
    params["language_model"].update(name=str(folder / "llama"), revision=None)
    params["train"]["epochs"] = epochs
    params["runtime"].update(device=device, num_workers=workers)
    yaml.dump(params, project / "params.yaml")
    _make_images(photos, work / "photos", images)
    # A copy without git.
    _dvc(project, "config", "--local", "core.no_scm", "true")
    rows: list[dict[str, Any]] = []
    for stage in STAGES:
        start = time.perf_counter()
        _dvc(project, "repro", "--single-item", stage)
        rows.append({"stage": stage, "seconds": time.perf_counter() - start})
        click.echo(f"{stage}: {rows[-1]['seconds']:.1f} s", err=True)
    print_rows(rows, placement)
    cost = read_json(project / "metrics" / "cost.json")
    click.echo(f"training: {cost['captions_per_second']:.0f} captions/s, {cost['peak_memory_mb']:.0f} MB")


def _copy_project(project: Path) -> None:
    for name in _COPIED:
        source, target = PROJECT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)


def _make_images(photos: Path, folder: Path, images: int) -> None:
    """Write `images` pictures cut from `photos` and a captions.jsonl, each split repeated alike."""
    nothing = ScenesParams(1, 1, 1, image_size=224, seed=0)
    all_images = Limits(None, None, None)
    items = read_dataset(DataParams("flickr8k", str(photos), all_images, _MEGAPIXELS, nothing, pins=""))
    # Few of them are of all splits, too.
    random.Random(0).shuffle(items)
    folder.mkdir()
    cuts = [(*items[n % len(items)], folder / f"{n:06}.jpg", n // len(items)) for n in range(images)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        list(processes.map(_cut, *zip(*cuts, strict=True), chunksize=64))
    rows = ({"image": path.name, "split": r.split, "captions": r.captions} for r, _, path, _ in cuts)
    write_jsonl(folder / "captions.jsonl", rows)


def _cut(record: CaptionRecord, photograph: Path, path: Path, turn: int) -> None:
    """Write one picture of a photograph: in the first turn the whole photograph, then a random part."""
    if turn == 0:
        shutil.copyfile(photograph, path)
        return
    draw = random.Random(f"{record.image_id} {turn}")
    left, top = draw.uniform(0, 1 - _KEPT), draw.uniform(0, 1 - _KEPT)
    photo = open_image(photograph, _MEGAPIXELS)
    crop(photo, (left, top, left + _KEPT, top + _KEPT)).save(path, quality=90)


def _dvc(project: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=project, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
