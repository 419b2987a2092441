"""`vlm caption`: what a trained model says of images, or of regions of them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm import options

if TYPE_CHECKING:
    from pipeline.regions.captioner import RegionCaption
    from pipeline.regions.regions import Region


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--ask", help='A request in words: "Describe the top-right corner".')
@click.option("--region", help='A region by name: "top-left", "the left third".')
@click.option("--box", help="A region as x0,y0,x1,y1: fractions from 0 to 1, or whole pixels.")
@click.option("--recursive", is_flag=True, help="Read the folders of folders too.")
@click.option("--beams", type=click.IntRange(1, 32), default=3, help="Beams of the search; 1: greedy.")
@options.max_megapixels
@options.checkpoint
@options.memory
@options.device
@options.as_json
def caption(
    images: tuple[str, ...],
    ask: str | None,
    region: str | None,
    box: str | None,
    recursive: bool,
    beams: int,
    max_megapixels: float,
    checkpoint: Path,
    memory: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Caption images: files, folders (all images in them) and patterns.

    A line is `path: region: caption`, without the path for one image and without the region if none was asked
    for. With --json it has path, region, box (in fractions), caption, score (the mean log-probability of its
    tokens) and finished. A request that names several regions gives a caption for each. docs/regions.md says
    what can be asked.

    \b
    Example: vlm caption photo.jpg
    Example: vlm caption photos/ --ask "Compare the left and the right" --json
    """
    from dataclasses import replace

    from vlm.image_files import find_images

    regions = _regions(ask, region, box)
    files = find_images(images, recursive)
    for note in files.notes():
        click.echo(f"Note: {note}", err=True)
    # A dictionary keeps the order; an image that cannot be read fails once, not for each region.
    errors = dict.fromkeys(files.errors)
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    if files.paths:
        from tqdm import tqdm

        from pipeline.hardware.progress import bar
        from pipeline.regions.captioner import DEFAULT_GENERATION, Captioner

        checkpoint = options.find_checkpoint_or_explain(checkpoint)
        if not as_json:
            click.echo(f"Loading {checkpoint} and the models that it names ...", err=True)
        captioner = Captioner.load(checkpoint, device, options.model_cache(), max_megapixels, memory)
        requests = [(path, region) for path in files.paths for region in regions]
        answers = captioner.caption_each(requests, replace(DEFAULT_GENERATION, beams=beams))
        several = len(files.paths) + len(files.errors) > 1
        names_region = (ask, region, box) != (None, None, None)
        with bar("caption", len(requests), hidden=len(requests) == 1) as progress:
            for (path, _), answer in zip(requests, answers, strict=True):
                # tqdm writes above its bar.
                if not isinstance(answer, Exception):
                    plain = _line(path if several else None, answer, names_region)
                    tqdm.write(_row(path, answer) if as_json else plain)
                elif str(answer) not in errors:
                    errors[str(answer)] = None
                    tqdm.write(f"Error: {answer}", file=sys.stderr)
                progress.update(1)
    if errors:
        click.get_current_context().exit(1)


def _regions(ask: str | None, region: str | None, box: str | None) -> "tuple[Region, ...]":
    from pipeline.regions.regions import REGIONS, region_from_box, region_from_name, regions_from_request

    if sum(option is not None for option in (ask, region, box)) > 1:
        raise click.UsageError("--ask, --region and --box exclude each other. Fix: pass one of them.")
    if ask is not None:
        return regions_from_request(ask)
    if region is not None:
        return (region_from_name(region),)
    return (REGIONS["full"] if box is None else region_from_box(box),)


def _row(path: Path, answer: "RegionCaption") -> str:
    row = {
        "path": str(path),
        "region": answer.region.name,
        "box": answer.region.box,
        "caption": answer.text,
        "score": round(answer.score, 4),
        "finished": answer.finished,
    }
    return json.dumps(row, ensure_ascii=False)


def _line(path: Path | None, answer: "RegionCaption", names_region: bool) -> str:
    parts = [str(path)] if path else []
    return ": ".join([*parts, *([str(answer.region)] if names_region else []), answer.text])
