"""The command group `vlm`. Its commands import torch only when they run: `--help` answers at once."""

import click

from stages.errors import quiet_libraries, report_user_errors
from vlm.app_command import app
from vlm.ask import ask
from vlm.caption import caption
from vlm.compare import compare
from vlm.doctor import doctor
from vlm.export import export
from vlm.features import features
from vlm.memory import memory
from vlm.score import score


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> None:
        quiet_libraries()
        report_user_errors(super().invoke)(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="lightweight-vlm")
def main() -> None:
    """Use a trained captioner, and look after a run.

    \b
    Example: vlm caption photo.jpg
    """


for command in (app, ask, caption, compare, doctor, export, features, memory, score):
    main.add_command(command)
