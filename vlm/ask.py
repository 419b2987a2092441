"""`vlm ask`: what a model that was trained on questions answers about images, or about regions of them."""

from typing import Any

import click

from vlm import options
from vlm.caption import caption


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
@click.pass_context
def ask(context: click.Context, /, **_options: Any) -> None:
    """Ask a question about images: files, folders (all images in them) and patterns.

    A line is `path: region: answer`, without the path for one image and without the region if none was
    named. With --json it has path, region, box (in fractions), question, answer, score (the mean
    log-probability of its tokens) and finished. A model that was trained on captions alone refuses.

    \b
    Example: vlm ask photo.jpg "How many dogs are there?"
    Example: vlm ask photos/ "What color is the car?" --region left --json
    """
    # The options are those of `vlm caption`, with a question.
    context.forward(caption)
