"""A full check of a feature store. Stages check what they read; this reads everything."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError, first_few
from pipeline.features.store import FeatureStore
from pipeline.hardware.progress import track

_DAMAGED = "checksum wrong or unreadable"
_INFINITE = "values that are not finite"
_UNSORTED = "ids out of order or repeated"
_CHANGED = "encoded from other bytes than are listed"
_MISSING = "listed but not in the store"
_SURPLUS = "in the store but not listed"
_ENCODE = "run `dvc repro encode`"
# In this order they are reported.
_REMEDIES = {
    _DAMAGED: f"delete the file and {_ENCODE}",
    _INFINITE: "delete the file and .scratch/encode, then `dvc repro encode`",
    _UNSORTED: f"delete the file and {_ENCODE}",
    **dict.fromkeys((_CHANGED, _MISSING, _SURPLUS), _ENCODE),
}


def verify_store(store: FeatureStore, images: Iterable[ImageRecord] | None = None) -> list[str]:
    """Read all of a feature store: digests of rows, finite values, ids sorted and unique.

    Reads row by row, so memory holds the features of one image.

    Args:
        store: an open store.
        images: what it should hold, sorted by id as in images.jsonl; None: that is not compared.

    Returns:
        A sentence for each kind of fault, with the first images that have it; none for a good store.
    """
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for image_id, _, values in track(store.rows(), "verify", total=len(store)):
        if isinstance(values, PipelineError):
            faults[_DAMAGED].append(image_id)
        elif not np.isfinite(values).all():
            faults[_INFINITE].append(image_id)
    faults[_UNSORTED] = [image_id for before, image_id in pairwise(store.image_ids) if before >= image_id]
    # Two lists can be compared in one pass where both are sorted.
    if images is not None and not faults[_UNSORTED]:
        stored = zip(store.image_ids, store.sha256, ["store"] * len(store), strict=True)
        listed = ((image.image_id, image.sha256, "list") for image in images)
        by_id = itemgetter(0)
        for image_id, rows in groupby(heapq.merge(stored, listed, key=by_id), by_id):
            digests = {place: sha256 for _, sha256, place in rows}
            if len(digests) == 1:
                faults[_MISSING if "list" in digests else _SURPLUS].append(image_id)
            elif digests["list"] != digests["store"]:
                faults[_CHANGED].append(image_id)
    return [
        f"{what}: {first_few(faults[what])}; {remedy}." for what, remedy in _REMEDIES.items() if faults[what]
    ]
