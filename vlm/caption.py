"""`vlm caption`: what a trained model says of images, or of regions of them."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from stages.errors import quiet_libraries, report_user_errors
from vlm.options import (
    checkpoint_option,
    device_option,
    find_checkpoint_or_explain,
    megapixels_option,
    model_cache,
    project_params,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.regions.captioner import RegionCaption
    from pipeline.regions.regions import Region


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--ask", help='A request in words: "Describe the top-right corner".')
@click.option("--region", help='A region by name: "top-left", "the left third".')
@click.option("--box", help="A region as x0,y0,x1,y1: fractions from 0 to 1, or whole pixels.")
@click.option("--recursive", is_flag=True, help="Look into the folders' folders as well.")
@click.option(
    "--beams",
    type=click.IntRange(1, 32),
    default=3,
    show_default=True,
    help="Beams of the search; 1: greedy.",
)
@megapixels_option
@checkpoint_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each caption.")
@report_user_errors
def caption(
    images: tuple[str, ...],
    ask: str | None,
    region: str | None,
    box: str | None,
    recursive: bool,
    beams: int,
    max_megapixels: float,
    checkpoint: "Path",
    device: str,
    as_json: bool,
) -> None:
    """Caption images: files, folders (all images in them) and patterns.

    Of one image only the caption is printed, of several `path: caption`. With --json each line has path,
    region, box (in fractions), caption, score (the mean log-probability of its tokens) and finished. A
    request that names several regions gives a caption for each. docs/regions.md says what can be asked.

    \b
    Example: vlm caption photo.jpg
    Example: vlm caption photos/ --ask "Compare the left and the right" --json
    """
    quiet_libraries()
    from dataclasses import replace

    from vlm.image_files import find_images

    wanted = _regions(ask, region, box)
    found = find_images(images, recursive)
    for note in found.notes():
        click.echo(f"Note: {note}", err=True)
    for error in found.errors:
        click.echo(f"Error: {error}", err=True)
    failures: set[tuple[Path, str]] = set()
    if found.paths:
        from tqdm import tqdm

        from pipeline.hardware.progress import bar
        from pipeline.regions.captioner import DEFAULT_GENERATION, Captioner

        checkpoint = find_checkpoint_or_explain(checkpoint)
        captioner = Captioner.load(checkpoint, device, model_cache(project_params()), max_megapixels)
        requests = [(path, one) for path in found.paths for one in wanted]
        answers = captioner.caption_each(requests, replace(DEFAULT_GENERATION, beams=beams))
        alone = len(found.paths) + len(found.errors) == 1
        with bar("caption", len(requests), hidden=len(requests) == 1) as progress:
            for (path, _), answer in zip(requests, answers, strict=True):
                # tqdm writes above its bar.
                if not isinstance(answer, Exception):
                    tqdm.write(_line(path, answer, as_json, alone, several=len(wanted) > 1))
                # The same for each region of an image that cannot be read.
                elif (path, str(answer)) not in failures:
                    failures.add((path, str(answer)))
                    tqdm.write(f"Error: {answer}", file=sys.stderr)
                progress.update(1)
    if found.errors or failures:
        click.get_current_context().exit(1)


def _regions(ask: str | None, region: str | None, box: str | None) -> "tuple[Region, ...]":
    from pipeline.regions.regions import REGIONS, region_from_box, region_from_name, regions_from_request

    if sum(option is not None for option in (ask, region, box)) > 1:
        raise click.UsageError("give one of --ask, --region and --box.")
    if ask is not None:
        return regions_from_request(ask)
    if region is not None:
        return (region_from_name(region),)
    if box is not None:
        return (region_from_box(box),)
    return (REGIONS["full"],)


def _line(path: "Path", answer: "RegionCaption", as_json: bool, alone: bool, several: bool) -> str:
    if as_json:
        row: dict[str, Any] = {
            "path": str(path),
            "region": answer.region.name,
            "box": answer.region.box,
            "caption": answer.text,
            "score": round(answer.score, 4),
            "finished": answer.finished,
        }
        return json.dumps(row, ensure_ascii=False)
    place = f"{answer.region}" if several else ""
    return ": ".join(part for part in ("" if alone else str(path), place, answer.text) if part)
