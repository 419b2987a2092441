"""The fault suite in full, and its table: `python -m tests.faults` (`make faults`).

Exit 1 if anything was lost.
"""

import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click

from tests.faults.full_disk import why_no_small_disk
from tests.faults.lab import Tally
from tests.faults.suite import Effort, cases, make_labs

FULL = Effort(kills=120, times=3, examples=200)


def main() -> None:
    """Try every kind of fault and say what survived."""
    begun = time.monotonic()
    tallies: dict[str, list[Tally]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for group, case in cases(make_labs(Path(folder)), FULL):
            tally = case()
            click.echo(f"{tally.kind:<52} {tally.tried:6} tried, {len(tally.lost)} lost", err=True)
            click.echo("".join(f"  lost: {what}\n" for what in tally.lost.values()), err=True, nl=False)
            for name in (group, "all"):
                tallies[name].append(tally)
        if reason := why_no_small_disk(Path(folder)):
            click.echo(f"not tried: full disk ({reason})")
    click.echo(f"\n{'':<24}{'kinds':>8}{'tried':>8}{'survived':>10}{'lost':>6}")
    for name, group_tallies in tallies.items():
        tried = sum(tally.tried for tally in group_tallies)
        lost = sum(len(tally.lost) for tally in group_tallies)
        click.echo(f"{name:<24}{len(group_tallies):>8}{tried:>8}{tried - lost:>10}{lost:>6}")
    click.echo(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(any(tally.lost for tally in tallies["all"]))


if __name__ == "__main__":
    main()
