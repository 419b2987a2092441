"""`vlm ask`: what a model that was trained on questions answers about images, or about regions of them."""

import os
from contextlib import suppress
from typing import Any

import click

from vlm import options
from vlm.caption import caption


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1)
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
@click.pass_context
def ask(context: click.Context, /, question: str, **values: Any) -> None:
    """Ask a question about images: files, folders (all images in them) and patterns.

    A line is `path: region: answer`, without the path for one image and without the region if none was
    named. With --json it has path, region, box (in fractions), question, answer, score (the mean
    log-probability of its tokens) and finished. A model that was trained on captions alone refuses.

    \b
    Example: vlm ask photo.jpg "How many dogs are there?"
    Example: vlm ask photos/ "What color is the car?" --region left --json
    """
    from pipeline.errors import PipelineError
    from pipeline.regions.regions import REGIONS, regions_from_request

    if not values["images"] or not question.strip():
        raise click.UsageError(
            "The question is missing. Fix: pass images, and then a question in quotation marks."
        )
    # Words without marks of a path or pattern are those of a question.
    exists = os.path.exists  # Path.exists raises an error for a text that is longer than a name may be
    words = [name for name in values["images"] if not (exists(name) or set(name) & set("./\\*?["))]
    if words or exists(question):
        problem = f"{words[0]!r:.100} is no file or folder" if words else f"{question!r:.100} is no question"
        raise click.UsageError(f"{problem}. Fix: put the question last, in quotation marks.")
    if not (values["region"] or values["box"]):
        with suppress(PipelineError):  # a question need not name a place, and may name it unclearly
            if regions_from_request(question, otherwise=()) not in ((), (REGIONS["full"],)):
                click.echo(
                    "Note: the model sees the whole image. --region shows it one region only.", err=True
                )
    # The options are those of `vlm caption`, with a question.
    context.forward(caption)
