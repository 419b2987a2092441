"""`vlm doctor`: what a run needs, what there is, and how to mend the difference."""

import json
from pathlib import Path

import click

from stages.console import quiet_libraries, with_sentences

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@with_sentences
def doctor(as_json: bool) -> None:
    """Check machine and project for the run that params.yaml describes.

    One line for each finding: ok, warning or problem; behind an arrow what mends it. Looks at parameters,
    device, cores, memory, packages, models (nothing is downloaded), dataset, disk, git and stages. Exit
    code 1 when there is a problem.

    \b
    Example: vlm doctor
    """
    quiet_libraries()
    from dataclasses import asdict

    from vlm.checks.examination import examine

    findings = []
    for finding in examine(Path()):
        findings.append(finding)
        if not as_json:
            line = str(finding).removeprefix(f"{finding.level:<8} ")
            click.echo(f"{click.style(f'{finding.level:<8}', _COLORS[finding.level])} {line}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.level == "problem" for finding in findings):
        click.get_current_context().exit(1)
