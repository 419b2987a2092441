"""`vlm caption`: what a trained model says of images, or of regions of them."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm import options

if TYPE_CHECKING:
    from pipeline.errors import PipelineError
    from pipeline.regions.captioner import RegionCaption
    from pipeline.regions.regions import Region
    from vlm.files.caption_output import CaptionOutput


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--ask", help='A request in words: "Describe the top-right corner".')
@click.option("--region", help='A region by name: "top-left", "the left third".')
@click.option("--box", help="A region as x0,y0,x1,y1: fractions from 0 to 1, or whole pixels.")
@click.option("--recursive", is_flag=True, help="Read the folders of folders too.")
@options.beams
@click.option("--write", metavar="txt|OUT.jsonl", help="Write captions there; those that exist are skipped.")
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
    beams: int | None,
    write: str | None,
    max_megapixels: float,
    checkpoint: Path,
    memory: Path | None,
    device: str,
    as_json: bool,
    question: str | None = None,
) -> None:
    """Caption images: files, folders (all images in them) and patterns.

    A line is `path: region: caption`, without the path for one image and without the region if none was asked
    for. With --json it has path, region, box (in fractions), caption, score (the mean log-probability of its
    tokens) and finished. A request that names several regions gives a caption for each. docs/regions.md says
    what can be asked. Without --json a line on stderr says what the model was trained on.

    With --write txt the caption of photo.jpg goes to photo.txt; with --write OUT.jsonl the lines of --json go
    to that file. Captions that exist are skipped, so that an interrupted command goes on.

    \b
    Example: vlm caption photo.jpg
    Example: vlm caption photos/ --ask "Compare the left and the right" --json
    Example: vlm caption photos/ --write txt
    """
    # `vlm ask` comes here too, with a `question`, which the texts then answer.
    from pipeline.images.images import open_image
    from vlm.files.caption_output import Printer, open_output
    from vlm.files.image_files import find_images

    if write and as_json:
        raise click.UsageError("--write and --json exclude each other. Fix: pass --write OUT.jsonl.")
    regions = _regions_of(ask, region, box)
    files = find_images(images, recursive)
    for note in files.notes():
        click.echo(f"Note: {note}", err=True)
    # In order, and each once: an image that cannot be read fails for each of its regions.
    errors = dict.fromkeys(files.errors)
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    several, names_region = len(files.paths) + len(files.errors) > 1, (ask, region, box) != (None, None, None)
    printer = Printer(as_json, several, names_region, question)
    requests = [(path, region) for path in files.paths for region in regions]
    counts: Counter[bool] = Counter()
    with open_output(write, printer, files.paths, regions) as output:
        missing = [request for request in requests if not output.has(*request)]
        if missing:
            if not several:  # a bad file is refused before the models are loaded; next to others, in its turn
                open_image(missing[0][0], max_megapixels, limit="max_megapixels")
            # Said before the imports: they take seconds, longer on a busy machine.
            if not as_json:
                click.echo(f"Loading {checkpoint} and the models that it names ...", err=True)
            from pipeline.regions.captioner import Captioner

            found = options.find_checkpoint_or_explain(checkpoint)
            captioner = Captioner.load(found, device, options.model_cache(), max_megapixels, memory)
            if not as_json:
                click.echo(captioner.trained_on, err=True)
            search = captioner.generation
            answers = captioner.caption_each(missing, replace(search, beams=beams or search.beams), question)
            try:
                counts = _output_all(missing, answers, output, errors)
            except KeyboardInterrupt:
                if write:
                    click.echo("Stopped. Run the same command again to go on.", err=True)
                raise
    if write:
        skipped = len(requests) - len(missing) + counts[False]
        click.echo(
            f"captions written to {write}: {counts[True]:,}; skipped, since they exist: {skipped:,}", err=True
        )
    if errors:
        click.get_current_context().exit(1)


def _output_all(
    requests: "Sequence[tuple[Path, Region]]",
    answers: "Iterable[RegionCaption | PipelineError]",
    output: "CaptionOutput",
    errors: dict[str, None],
) -> Counter[bool]:
    """Output each caption as it is made; print each error once, and add it to `errors`.

    Returns how many captions were new, and how many not.
    """
    from tqdm import tqdm

    from pipeline.hardware.progress import bar
    from pipeline.regions.captioner import BATCH_SIZE

    counts: Counter[bool] = Counter()
    with bar("caption", "images", len(requests), hidden=len(requests) == 1) as progress:
        for number, ((path, _), answer) in enumerate(zip(requests, answers, strict=True), 1):
            if not isinstance(answer, Exception):
                counts[output.add(path, answer)] += 1
            elif str(answer) not in errors:
                errors[str(answer)] = None
                tqdm.write(f"Error: {answer}", file=sys.stderr)
            progress.update(1)
            if number % BATCH_SIZE == 0:
                output.end_batch()
    return counts


def _regions_of(ask: str | None, region: str | None, box: str | None) -> "tuple[Region, ...]":
    """Return the regions that the options name; one of the options at most."""
    from pipeline.regions.regions import REGIONS, region_from_box, region_from_name, regions_from_request
    from pipeline.regions.words import is_question

    if sum(option is not None for option in (ask, region, box)) > 1:
        raise click.UsageError("--ask, --region and --box exclude each other. Fix: pass one of them.")
    if ask is not None:
        if is_question(ask):
            click.echo(
                "Note: --ask captions the region that a request names. `vlm ask` answers questions, if the "
                "model was trained on them.",
                err=True,
            )
        return regions_from_request(ask)
    if region is not None:
        return (region_from_name(region),)
    return (REGIONS["full"] if box is None else region_from_box(box),)
