"""After a run: the best epoch, its scores and where to look. No DVC stage; it writes nothing."""

from pathlib import Path

import click

from stages.console import with_sentences

_CONTROLS = {
    "constant": "one caption for all",
    "nearest": "nearest training image's",
    "shuffled": "the model, images shuffled",
}


@click.command()
@with_sentences
def main() -> None:
    """Print the best epoch, its test scores beside their controls, and the gallery's path.

    \b
    Example: python -m stages.summary
    """
    from pipeline.records import read_json

    evaluation = read_json(Path("metrics/evaluate.json"))
    regions = read_json(Path("metrics/regions.json"))
    test = evaluation["test"]
    images = evaluation["images"]["test"]
    click.echo(f"\nBest epoch: {evaluation['best_epoch']} (chosen on dev by {evaluation['selected_by']})")
    click.echo(f"Test scores ({images} images):      BLEU-1   BLEU-4    CIDEr  ROUGE-L")
    rows = {"the model": test}
    for name in sorted(evaluation["controls"]):
        rows[_CONTROLS.get(name, name)] = evaluation["controls"][name]
    for name, of in rows.items():
        values = (of["bleu_1"], of["bleu_4"], of["cider"], of["rouge_l"])
        click.echo(f"  {name:<28}" + "".join(f"{value:9.2f}" for value in values))
    for title, found in (("single objects", evaluation.get("scenes")), ("region crops", regions)):
        if found and "shape_accuracy" in found:
            click.echo(
                f"Right in {found['objects']} {title}: shape {found['shape_accuracy']:.1f} %, "
                f"colour {found['color_accuracy']:.1f} %"
            )
    click.echo("Gallery: report/index.html")


if __name__ == "__main__":
    main()
