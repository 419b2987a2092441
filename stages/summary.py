"""After a run: the best epoch, its scores and where to look. This is no DVC stage; it writes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from stages.errors import refuse_while_dvc_runs, report_user_errors


@click.command()
@report_user_errors
def main() -> None:
    """Print the best epoch, its test scores next to their controls, and the gallery's path.

    \b
    Example: python -m stages.summary
    """
    from pipeline.files.json_files import read_json
    from pipeline.metrics.scores import CONTROLS, MAIN_SCORES, choice_sentence, verdict

    metrics = [Path("metrics/evaluate.json"), Path("metrics/regions.json")]
    for path in metrics:
        if not path.exists():
            refuse_while_dvc_runs(path, "wait until it has ended")
    evaluation, regions = map(read_json, metrics)
    images = evaluation["images"]["test"]
    click.echo(f"\nBest epoch: {evaluation['best_epoch']}. {choice_sentence(evaluation)}".rstrip())
    title = f"Test scores ({images} images):"
    click.echo(f"{title:<31}BLEU-1   BLEU-4  CIDEr-D  ROUGE-L   model's CIDEr-D minus this, 95 %")
    rows = {"the model": evaluation["test"]}
    rows |= {CONTROLS.get(name, name): row for name, row in sorted(evaluation["controls"].items())}
    for name, row in rows.items():
        behind = f"   {row['behind']['low']:.0f} to {row['behind']['high']:.0f}" if "behind" in row else ""
        click.echo(f"  {name:<28}" + "".join(f"{row[key]:9.2f}" for key in MAIN_SCORES) + behind)
    within = evaluation["intervals"]["test"]
    bounds = (f"{within[key]['low']:.0f} to {within[key]['high']:.0f}" for key in MAIN_SCORES)
    click.echo(f"  {'95 % interval of the model':<28} " + ", ".join(bounds))
    if sentence := verdict(evaluation):
        click.echo(sentence)
    if "answers" in evaluation:
        _echo_answers(evaluation["answers"])
    if "objects" in evaluation.get("scenes", {}):
        click.echo(_accuracy(evaluation["scenes"], f"{images} test images"))
    if "objects" in regions:
        click.echo(_accuracy(regions, f"{regions['requests']} region crops"))
    click.echo("Gallery: report/index.html")


def _echo_answers(answers: Mapping[str, Any]) -> None:
    """Print the accuracy of answers, by kind of question, next to the controls."""
    from pipeline.metrics.scores import ANSWER_CONTROLS

    rows = {f"all {answers['questions']} questions": answers}
    rows |= {f"{kind} ({row['questions']})": row for kind, row in answers["kinds"].items()}
    names = [ANSWER_CONTROLS.get(name, name) for name in answers["controls"]]
    click.echo("  ".join([f"{'Right answers in %:':<30} the model   {'95 %':<10}", *names]))
    for name, row in rows.items():
        shares = zip(row["controls"].values(), names, strict=True)
        controls = [f"{control['accuracy']:{len(title)}.1f}" for control, title in shares]
        within = f"{row['low']:.0f} to {row['high']:.0f}"
        click.echo("  ".join([f"  {name:<28} {row['accuracy']:9.1f}   {within:<10}", *controls]))


def _accuracy(scores: Mapping[str, float], total: str) -> str:
    """Say which captions of scenes are judged, and how many of them are right."""
    place = ""
    if "places" in scores:
        place = f", place in {scores['place_accuracy']:.1f} % of the {scores['places']} that name one"
    if "empties" in scores:
        place += f"; of {scores['empties']} without any, no shape named in {scores['empty_accuracy']:.1f} %"
    return (
        f"Of {total} the {scores['objects']} that show one whole object alone are judged: shape right in "
        f"{scores['shape_accuracy']:.1f} %, color in {scores['color_accuracy']:.1f} %{place}"
    )


if __name__ == "__main__":
    main()
