"""`vlm features`: what a feature store contains, and whether all of it is good."""

import json
from pathlib import Path

import click

from vlm import options

_STORE = click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default="data/features.h5")


@click.group()
def features() -> None:
    """Show what a feature store (data/features.h5) contains, or check all of it.

    \b
    Example: vlm features inspect data/features.h5
    """


@features.command()
@_STORE
@options.as_json
def inspect(path: Path, as_json: bool) -> None:
    """Say what is inside: images, tokens, width, type, size, and the encoder's provenance.

    \b
    Example: vlm features inspect data/features.h5
    """
    from pipeline.features.store import FeatureStore

    with FeatureStore(path) as store:
        count, encoder, size = len(store), dict(store.spec), path.stat().st_size
    shape = {key: encoder[key] for key in ("num_tokens", "width")}
    if as_json:
        content = {"images": count, **shape, "dtype": "float16", "bytes": size, "encoder": encoder}
        click.echo(json.dumps(content, indent=2))
        return
    rows = {
        "images": f"{count:,}",
        "features": "{num_tokens} tokens x {width} of float16 an image".format(**shape),
        "size": f"{size / 1e6:,.1f} MB",
        **{f"encoder {key}": value for key, value in encoder.items()},
    }
    width = max(map(len, rows))
    click.echo("\n".join([str(path), *(f"  {name:<{width}}  {value}" for name, value in rows.items())]))


@features.command()
@_STORE
@click.option(
    "--images",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Compare the images' digests with this list, such as data/images.jsonl.",
)
def verify(path: Path, images: Path | None) -> None:
    """Read every image's features: checksums, finite values, ids; with --images digests too.

    Says what is wrong, names the first images concerned, and what to do; exit code 1.

    \b
    Example: vlm features verify data/features.h5 --images data/images.jsonl
    """
    from itertools import pairwise

    import numpy as np

    from pipeline.captions import ImageList
    from pipeline.errors import PipelineError, first_few
    from pipeline.features.store import FeatureStore
    from pipeline.hardware.progress import track

    expected = None if images is None else ImageList(images)
    encode, damaged, infinite = "run `dvc repro encode`", [], []
    with FeatureStore(path) as store:
        # Row by row: memory holds the features of one image.
        for image_id, values in track(store.rows(), "verify", "images", len(store)):
            if isinstance(values, PipelineError):
                damaged.append(image_id)
            elif not np.isfinite(values).all():
                infinite.append(image_id)
        unsorted = [image_id for before, image_id in pairwise(store.image_ids) if before >= image_id]
    scratch = "delete the file and .scratch/encode, then `dvc repro encode`"
    faults = [
        ("checksum wrong or unreadable", damaged, f"delete the file and {encode}"),
        ("values that are not finite", infinite, scratch),
        ("ids out of order or repeated", unsorted, f"delete the file and {encode}"),
    ]
    if expected is not None and not unsorted:
        stored = dict(zip(store.image_ids, store.sha256, strict=True))
        listed = {image.image_id: image.sha256 for image in expected}
        changed = sorted(i for i in listed.keys() & stored.keys() if listed[i] != stored[i])
        faults += [
            ("encoded from other bytes than are listed", changed, encode),
            ("listed but not in the store", sorted(listed.keys() - stored.keys()), encode),
            ("in the store but not listed", sorted(stored.keys() - listed.keys()), encode),
        ]
    for fault, ids, remedy in faults:
        if ids:
            click.echo(f"Error: {path}: {fault}: {first_few(ids)}. Fix: {remedy}.", err=True)
    if any(ids for _, ids, _ in faults):
        click.get_current_context().exit(1)
    compared = "" if images is None else f", and the images are those of {images}"
    click.echo(f"{path}: all {len(store):,} images are readable, finite, sorted and unique{compared}.")
