"""The fault suite in full, and its table: `python -m tests.faults` (`make faults`).

Exit 1 if anything was lost.
"""

import sys
import tempfile
import time
from pathlib import Path

import click

from tests.faults.full_disk import why_no_small_disk
from tests.faults.lab import Tally
from tests.faults.suite import Effort, cases, make_labs

_WIDTH = 52


@click.command()
@click.option("--kills", default=120, show_default=True, help="Kills of encode, train and evaluate together.")
@click.option("--times", default=3, show_default=True, help="Attempts of each kind that goes by chance.")
@click.option("--examples", default=200, show_default=True, help="Changed files for each reader.")
@click.option("--seed", default=0, show_default=True, help="Of all chance.")
@click.option("--group", default="", help="One group of kinds, as the table calls it.")
def main(kills: int, times: int, examples: int, seed: int, group: str) -> None:
    """Try every kind of fault and say what survived."""
    begun = time.monotonic()
    groups: dict[str, list[Tally]] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        labs = make_labs(Path(folder))
        for name, case in cases(labs, Effort(kills, times, examples, seed)):
            if group in ("", name):
                tally = case()
                groups.setdefault(name, []).append(tally)
                _show(tally)
        reason = why_no_small_disk(Path(folder))
    if reason:
        click.echo(f"not tried: full disk ({reason})")
    lost = _table(groups)
    click.echo(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(1 if lost else 0)


def _show(tally: Tally) -> None:
    click.echo(f"{tally.kind:<{_WIDTH}} {tally.tried:6} tried, {len(tally.lost)} lost", err=True)
    for what in tally.lost:
        click.echo(f"  lost: {what}", err=True)


def _table(groups: dict[str, list[Tally]]) -> int:
    """Print the table, a line for each group; returns how much was lost."""
    click.echo(f"\n{'':<24}{'kinds':>8}{'tried':>8}{'survived':>10}{'lost':>6}")
    kinds = tried = lost = 0
    for group, tallies in groups.items():
        of = sum(t.tried for t in tallies)
        gone = sum(len(t.lost) for t in tallies)
        click.echo(f"{group:<24}{len(tallies):>8}{of:>8}{of - gone:>10}{gone:>6}")
        kinds, tried, lost = kinds + len(tallies), tried + of, lost + gone
    click.echo(f"{'all':<24}{kinds:>8}{tried:>8}{tried - lost:>10}{lost:>6}")
    return lost


if __name__ == "__main__":
    main()
