"""`vlm profile`: which runs there are ready parameters for, and putting one into params.yaml."""

from pathlib import Path

import click

from stages.console import with_sentences
from vlm.options import PARAMS

_PROFILES = Path("profiles")


@click.command()
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Replace changes that are in no profile and not committed.")
@with_sentences
def profile(name: str | None, force: bool) -> None:
    """List the profiles, or put profiles/NAME.yaml into params.yaml.

    Changes to params.yaml that are in no profile and not committed are never replaced without --force.

    \b
    Example: vlm profile
    Example: vlm profile flickr8k-report
    """
    from pipeline.params.profiles import current_profile, list_profiles, use_profile

    if name is None:
        profiles = list_profiles(_PROFILES)
        current = current_profile(PARAMS, profiles)
        width = max(len(one.name) for one in profiles)
        for one in profiles:
            click.echo(f"{'*' if one == current else ' '} {one.name:<{width}}  {one.summary}")
        click.echo(f"{PARAMS} is {'the profile marked *' if current else 'none of them'}.")
        return
    changes = use_profile(name, PARAMS, _PROFILES, force)
    click.echo(f"{PARAMS} is now {_PROFILES / name}.yaml.")
    for line in changes:
        click.echo(f"  {line}")
    if not changes:
        click.echo("  Data, encoder and language model are those of before.")
    click.echo("Next: `vlm doctor`, which says what this run needs, then `dvc repro`.")
