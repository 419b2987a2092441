"""A full check of a feature store. Stages check the rows that they read; this reads everything."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError, first_few
from pipeline.features.store import FeatureStore
from pipeline.hardware.progress import track

_ENCODE = "run `dvc repro encode`"


def verify_store(store: FeatureStore, images: Iterable[ImageRecord] | None = None) -> list[str]:
    """Read all of a feature store: digests of rows, finite values, ids sorted and unique.

    Reads row by row, so memory holds the features of one image.

    Args:
        store: an open store.
        images: what it should hold, sorted by id; None: that is not compared.

    Returns:
        A sentence for each kind of fault, with the first images concerned; an empty list for a good store.
    """
    damaged, infinite = [], []
    for image_id, _, values in track(store.rows(), "verify", "images", len(store)):
        if isinstance(values, PipelineError):
            damaged.append(image_id)
        elif not np.isfinite(values).all():
            infinite.append(image_id)
    unsorted = [image_id for before, image_id in pairwise(store.image_ids) if before >= image_id]
    faults = [
        ("checksum wrong or unreadable", damaged, f"delete the file and {_ENCODE}"),
        (
            "values that are not finite",
            infinite,
            "delete the file and .scratch/encode, then `dvc repro encode`",
        ),
        ("ids out of order or repeated", unsorted, f"delete the file and {_ENCODE}"),
    ]
    if images is not None and not unsorted:
        stored = dict(zip(store.image_ids, store.sha256, strict=True))
        listed = {image.image_id: image.sha256 for image in images}
        changed = sorted(i for i in listed.keys() & stored.keys() if listed[i] != stored[i])
        faults += [
            ("encoded from other bytes than are listed", changed, _ENCODE),
            ("listed but not in the store", sorted(listed.keys() - stored.keys()), _ENCODE),
            ("in the store but not listed", sorted(stored.keys() - listed.keys()), _ENCODE),
        ]
    return [f"{fault}: {first_few(ids)}. Fix: {remedy}." for fault, ids, remedy in faults if ids]
