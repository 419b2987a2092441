"""After a run: the best epoch, its scores and where to look. No DVC stage; it writes nothing."""

from pathlib import Path

import click

from stages.errors import report_user_errors

_SCORES = ("bleu_1", "bleu_4", "cider", "rouge_l")


@click.command()
@report_user_errors
def main() -> None:
    """Print the best epoch, its test scores next to their controls, and the gallery's path.

    \b
    Example: python -m stages.summary
    """
    from pipeline.files.json_files import read_json
    from pipeline.metrics.scores import CONTROLS, choice_sentence, verdict

    evaluation = read_json(Path("metrics/evaluate.json"))
    regions = read_json(Path("metrics/regions.json"))
    test = evaluation["test"]
    images = evaluation["images"]["test"]
    click.echo(f"\nBest epoch: {evaluation['best_epoch']}. {choice_sentence(evaluation)}".rstrip())
    title = f"Test scores ({images} images):"
    click.echo(f"{title:<31}BLEU-1   BLEU-4    CIDEr  ROUGE-L   CIDEr behind, 95 %")
    rows = {"the model": test}
    for name in sorted(evaluation["controls"]):
        rows[CONTROLS.get(name, name)] = evaluation["controls"][name]
    for name, row in rows.items():
        behind = f"   {row['behind']['low']:.0f} to {row['behind']['high']:.0f}" if "behind" in row else ""
        click.echo(f"  {name:<28}" + "".join(f"{row[key]:9.2f}" for key in _SCORES) + behind)
    within = evaluation["intervals"]["test"]
    bounds = (f"{within[key]['low']:.0f} to {within[key]['high']:.0f}" for key in _SCORES)
    click.echo(f"  {'95 % interval of the model':<28} " + ", ".join(bounds))
    if any("behind" in row and row["behind"]["low"] < 0 for row in rows.values()):
        click.echo("  (behind: how much lower a control's CIDEr is than the model's; negative: it is higher)")
    if sentence := verdict(evaluation):
        click.echo(sentence)
    for title, found in (("single objects", evaluation.get("scenes")), ("region crops", regions)):
        if found and "shape_accuracy" in found:
            click.echo(
                f"Right in {found['objects']} {title}: shape {found['shape_accuracy']:.1f} %, "
                f"colour {found['color_accuracy']:.1f} %"
            )
    click.echo("Gallery: report/index.html")


if __name__ == "__main__":
    main()
