"""The fault suite in full, and its table: `python -m tests.faults` (`make faults`).

Exit 1 if anything was lost.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from tests.faults.full_disk import why_no_small_disk
from tests.faults.suite import GROUPS, Effort, cases, make_labs


@click.command()
@click.option("--kills", default=120, show_default=True, help="Kills of encode, train and evaluate together.")
@click.option("--times", default=3, show_default=True, help="Attempts of each kind that goes by chance.")
@click.option("--examples", default=200, show_default=True, help="Changed files for each reader.")
@click.option("--seed", default=0, show_default=True, help="Of all chance.")
@click.option("--group", type=click.Choice(GROUPS), help="One group of kinds, as the table calls it.")
def main(kills: int, times: int, examples: int, seed: int, group: str | None) -> None:
    """Try every kind of fault and say what survived."""
    begun = time.monotonic()
    kinds, tried, lost = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        labs = make_labs(Path(folder))
        for name, case in cases(labs, Effort(kills, times, examples, seed)):
            if group not in (None, name):
                continue
            tally = case()
            click.echo(f"{tally.kind:<52} {tally.tried:6} tried, {len(tally.lost)} lost", err=True)
            for what in tally.lost.values():
                click.echo(f"  lost: {what}", err=True)
            for total in (name, "all"):
                kinds[total] += 1
                tried[total] += tally.tried
                lost[total] += len(tally.lost)
        if reason := why_no_small_disk(Path(folder)):
            click.echo(f"not tried: full disk ({reason})")
    click.echo(f"\n{'':<24}{'kinds':>8}{'tried':>8}{'survived':>10}{'lost':>6}")
    for name in (*(name for name in GROUPS if kinds[name]), "all"):
        counts = f"{kinds[name]:>8}{tried[name]:>8}{tried[name] - lost[name]:>10}{lost[name]:>6}"
        click.echo(f"{name:<24}{counts}")
    click.echo(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(1 if lost["all"] else 0)


if __name__ == "__main__":
    main()
