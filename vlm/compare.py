"""`vlm compare`: the captions of two runs, or of any two systems, next to each other."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from vlm import options

_PRINTED = 5  # images on the terminal
_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--references", type=_PATH, help="What people wrote.  [default: the run's data/captions.jsonl]")
@click.option("--page", type=_PATH, default="report/compare.html", help="The page to write.")
@options.max_megapixels
def compare(first: str, second: str, references: Path | None, page: Path, max_megapixels: float) -> None:
    """Compare captions of the same images: scores, and the images whose captions changed most.

    A and B are files of predictions, as `vlm score` takes them, or runs: an experiment, a commit, a branch, a
    tag, or `workspace`, the run in this folder (`vlm compare HEAD workspace` shows what a change did). Of a
    run the test captions of its best epoch are compared.
    Where the interval of a difference contains 0, these images do not tell A and B apart.

    \b
    Example: vlm compare workspace data/predictions/epoch_001_test.jsonl --page report/compare.html
    """
    from pipeline.report.comparison import SHOWN, compare_captions, write_comparison
    from vlm.files.caption_files import read_caption_file
    from vlm.files.run_files import RunFiles

    with TemporaryDirectory() as folder:
        runs = [RunFiles(name, Path(folder, side)) for side, name in (("A", first), ("B", second))]
        # References and images are those of a run, of B's if both are one.
        run = runs[0] if runs[1].is_file else runs[1]
        predictions = [run.predictions() for run in runs]
        expected = read_caption_file(references or run.get("data/captions.jsonl"), "captions")
        read = [
            # A model may have found no words.
            read_caption_file(file, "caption", references=expected, allow_empty=True)
            for file in predictions
        ]
        old, new = ({image: only for image, (only,) in captions.items()} for captions in read)
        # The references may be of more images, such as those of all splits.
        expected = {image: texts for image, texts in expected.items() if image in old.keys() | new.keys()}
        comparison = compare_captions(old, new, expected)
        pictures = run.images([change.image_id for change in comparison.changes[:SHOWN]])
        write_comparison(page, comparison, (first, second), pictures, max_megapixels)
    click.echo(f"A: {first}, B: {second}; {comparison.images} images")
    click.echo(f"{'':<10}{'A':>8} {'B':>8} {'B - A':>8}   95 % interval")
    for row in comparison.scores:
        difference = f"{row.second - row.first:+8.2f}   {row.low:.2f} to {row.high:.2f}"
        click.echo(f"  {row.title:<8}{row.first:8.2f} {row.second:8.2f} {difference}")
    most = " CIDEr-D changed most of" if comparison.changes else ""
    click.echo(f"Captions that differ: {len(comparison.changes)}.{most}")
    for change in comparison.changes[:_PRINTED]:
        click.echo(f"  {change.image_id}: {change.ciders[0]:.0f} -> {change.ciders[1]:.0f}")
        for name, caption in zip("AB", change.captions, strict=True):
            click.echo(f"    {name}: {''.join(c if c.isprintable() else '?' for c in caption)}")
    click.echo(f"Page: {page}")
