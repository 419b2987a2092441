"""`vlm score`: captions of any model, scored as the field scores them."""

import json
from pathlib import Path

import click

from vlm import options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("predictions", type=_FILE)
@click.argument("references", type=_FILE)
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "test"]),
    help="Use only the lines of REFERENCES with this split, which data/captions.jsonl has.",
)
@options.as_json
def score(predictions: Path, references: Path, split: str | None, as_json: bool) -> None:
    """Score captions against what people wrote, with 95 % confidence intervals.

    PREDICTIONS has lines {"image_id": "1.jpg", "caption": "a dog runs"}, REFERENCES has lines
    {"image_id": "1.jpg", "captions": ["A dog is running.", "A brown dog runs."]}; both of the same images.
    PREDICTIONS may also be what `vlm caption` wrote with --json or --write: paths are compared by file name.
    The scores are those of pycocoevalcap, times 100; the intervals come from a bootstrap over the images.

    \b
    Example: vlm score data/predictions/epoch_001_test.jsonl data/captions.jsonl --split test
    """
    from pipeline.metrics.bootstrap import intervals
    from pipeline.metrics.scores import SCORES, measure
    from vlm.files.caption_files import read_caption_file

    expected = read_caption_file(references, "captions", split)
    read = read_caption_file(predictions, "caption", references=expected)
    per_image = measure({image: only for image, (only,) in read.items()}, expected)
    scores, bounds = per_image.scores(), intervals(per_image)
    if as_json:
        click.echo(json.dumps({**scores, "intervals": bounds}, indent=2))
        return
    click.echo(f"{scores['images']} images, {scores['words']:.1f} words a caption        95 % interval")
    for name, title in SCORES.items():
        low, high = bounds[name]["low"], bounds[name]["high"]
        click.echo(f"  {title:<8} {scores[name]:8.2f}       {low:.2f} to {high:.2f}")
