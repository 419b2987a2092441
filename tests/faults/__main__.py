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
@click.option("--group", type=click.Choice(GROUPS), help="One group of kinds, as the table calls it.")
def main(kills: int, times: int, examples: int, group: str | None) -> None:
    """Try every kind of fault and say what survived."""
    begun = time.monotonic()
    kinds, tried, lost = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name, case in cases(make_labs(Path(folder)), Effort(kills, times, examples)):
            if group in (None, name):
                tally = case()
                click.echo(f"{tally.kind:<52} {tally.tried:6} tried, {len(tally.lost)} lost", err=True)
                click.echo("".join(f"  lost: {what}\n" for what in tally.lost.values()), err=True, nl=False)
                for total in (name, "all"):
                    kinds[total] += 1
                    tried[total] += tally.tried
                    lost[total] += len(tally.lost)
        if reason := why_no_small_disk(Path(folder)):
            click.echo(f"not tried: full disk ({reason})")
    click.echo(f"\n{'':<24}{'kinds':>8}{'tried':>8}{'survived':>10}{'lost':>6}")
    for name in kinds:
        counts = f"{kinds[name]:>8}{tried[name]:>8}{tried[name] - lost[name]:>10}{lost[name]:>6}"
        click.echo(f"{name:<24}{counts}")
    click.echo(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(bool(lost["all"]))


if __name__ == "__main__":
    main()
