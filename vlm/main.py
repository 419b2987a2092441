"""The command group `vlm`. Its commands import torch only when they run: `--help` answers at once."""

import click

from vlm.app_command import app
from vlm.caption import caption
from vlm.doctor import doctor
from vlm.export import export
from vlm.features import features
from vlm.score import score


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lightweight-vlm")
def main() -> None:
    """Use a trained captioner, and look after a run.

    \b
    Example: vlm caption photo.jpg
    """


for command in (app, caption, doctor, export, features, score):
    main.add_command(command)
