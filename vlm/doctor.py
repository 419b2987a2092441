"""`vlm doctor`: what a run needs, what is available, and how to fix the difference."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from vlm import options

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; a warning or a problem has the command or step that fixes it."""

    level: Literal["ok", "warning", "problem"]
    topic: str
    text: str
    remedy: str | None = None

    def __str__(self) -> str:
        line = f"{self.topic}: {self.text}" + (f" -> {self.remedy}" if self.remedy else "")
        return f"{click.style(f'{self.level:<8}', _COLORS[self.level])} {' '.join(line.splitlines())}"


@click.command()
@options.as_json
def doctor(as_json: bool) -> None:
    """Check machine and project for the run that params.yaml describes.

    One line for each check: ok, warning or problem; the remedy follows an arrow. Checks parameters, device,
    memory, models (nothing is downloaded), dataset, disk, git and stages. Exit code 1 if there is a problem.

    \b
    Example: vlm doctor
    """
    results = []
    for result in run_checks(Path()):
        results.append(result)
        if not as_json:
            click.echo(str(result))
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    if any(result.level == "problem" for result in results):
        click.get_current_context().exit(1)


def run_checks(folder: Path) -> Iterator[CheckResult]:
    """Check the machine and the project in a folder (the current one), result by result."""
    from pipeline.errors import PipelineError
    from pipeline.params.loader import load_params
    from vlm.checks.machine import check_disk, check_machine
    from vlm.checks.models import check_models, feature_shape
    from vlm.checks.project import check_dataset, check_git, check_stages

    path, params = folder / "params.yaml", None
    try:
        params = load_params(path)
        same = [
            file.stem for file in folder.glob("profiles/*.yaml") if file.read_bytes() == path.read_bytes()
        ]
        text = f"params.yaml is the profile {same[0]}" if same else "params.yaml, in no profile"
        yield CheckResult("ok", "parameters", text)
    except PipelineError as error:
        remedy = "run in the project's folder, or copy the sample's: `cp profiles/sample.yaml params.yaml`"
        if path.is_file():
            remedy = "correct it; `git diff HEAD params.yaml` shows what was changed"
        yield CheckResult("problem", "parameters", str(error), remedy)
    yield from check_machine(params)
    if params is not None:
        models = check_models(params)
        yield from models
        dataset, needs = check_dataset(params)
        yield dataset
        needs.downloads += models.values()
        yield check_disk(folder, params, needs, feature_shape(params.encoder))
    yield check_git(folder)
    # What would run follows from the parameters; with wrong ones no stage starts.
    if params is not None or not path.is_file():
        yield check_stages(folder)
