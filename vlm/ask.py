"""`vlm ask`: what a model that was trained on questions answers about images, or about regions of them."""

from dataclasses import replace
from pathlib import Path

import click

from vlm import options
from vlm.caption import find_and_report, load_captioner, output_all, regions_of


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.argument("question")
@click.option("--region", help='Ask about a region by name: "top-left", "the left third".')
@click.option("--box", help="Ask about x0,y0,x1,y1: fractions from 0 to 1, or whole pixels.")
@click.option("--recursive", is_flag=True, help="Read the folders of folders too.")
@options.beams
@options.max_megapixels
@options.checkpoint
@options.memory
@options.device
@options.as_json
def ask(
    images: tuple[str, ...],
    question: str,
    region: str | None,
    box: str | None,
    recursive: bool,
    beams: int | None,
    max_megapixels: float,
    checkpoint: Path,
    memory: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Ask a question about images: files, folders (all images in them) and patterns.

    A line is `path: region: answer`, without the path for one image and without the region if none was
    named. With --json it has path, region, box (in fractions), question, answer, score (the mean
    log-probability of its tokens) and finished. A model that was trained on captions alone refuses.

    \b
    Example: vlm ask photo.jpg "How many dogs are there?"
    Example: vlm ask photos/ "What color is the car?" --region left --json
    """
    from vlm.files.caption_output import Printer

    (part,) = regions_of(None, region, box)
    files, errors = find_and_report(images, recursive)
    requests = [(path, part) for path in files.paths]
    if requests:
        captioner = load_captioner(checkpoint, device, max_megapixels, memory, quiet=as_json)
        captioner.require_question(question)
        generate = replace(captioner.generation, beams=beams or captioner.generation.beams)
        answers = captioner.caption_each(requests, generate, question)
        several, names_region = len(files.paths) + len(files.errors) > 1, (region, box) != (None, None)
        output_all(requests, answers, Printer(as_json, several, names_region, question), errors)
    if errors:
        click.get_current_context().exit(1)
