"""A feature store looked into as a whole: what is inside, and whether all of it is good.

Stages check what they read; this reads everything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.feature_store import FeatureStore
from pipeline.progress import track

_NAMED = 5  # so many bad images are named of each kind; the rest is counted


@dataclass(frozen=True)
class StoreFacts:
    """What a feature store says of itself.

    Attributes:
        images: N.
        num_tokens: P, tokens of each image.
        width: D_v of the encoder.
        dtype: of the stored values.
        bytes: the size of the file.
        encoder: every fact that the features depend on.
    """

    images: int
    num_tokens: int
    width: int
    dtype: str
    bytes: int
    encoder: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """One kind of fault, the images that have it, and what to do."""

    what: str
    images: tuple[str, ...]
    remedy: str

    def __str__(self) -> str:
        named = ", ".join(self.images[:_NAMED])
        more = f" and {len(self.images) - _NAMED:,} more" if len(self.images) > _NAMED else ""
        return f"{self.what}: {named}{more}; {self.remedy}."


def inspect_store(path: Path) -> StoreFacts:
    """The facts of a feature store; no features are read. Raises PipelineError for what is none."""
    with FeatureStore(path) as store:
        spec = store.spec
        # The store was opened: its values have these shapes, and float16 is the only type it has.
        return StoreFacts(
            len(store), spec["num_tokens"], spec["width"], "float16", path.stat().st_size, dict(spec)
        )


def verify_store(path: Path, images: Iterable[ImageRecord] | None = None) -> list[Fault]:
    """Read all of a feature store: checksums, finite values, ids sorted and unique, digests as listed.

    Args:
        path: the store.
        images: what it should hold, from images.jsonl; None: that is not compared.

    Returns:
        The faults, each with the images that have it; none for a good store.

    Raises:
        PipelineError: for a file that cannot be opened as a store at all.
    """
    damaged: list[str] = []
    infinite: list[str] = []
    with FeatureStore(path) as store:
        ids = store.image_ids
        found = dict(zip(ids, store.sha256, strict=True))
        for image_id in track(ids, "verify"):
            try:
                values = store.read([image_id])  # [1, P, D_v], its checksum compared by HDF5
            except PipelineError:
                damaged.append(image_id)
                continue
            if not np.isfinite(values).all():
                infinite.append(image_id)
    out_of_order = [after for before, after in pairwise(ids) if before >= after]
    anew = "delete the file and run `dvc repro encode`"
    faults = [
        ("checksum wrong or unreadable", damaged, anew),
        (
            "values that are not finite",
            infinite,
            "delete the file and .scratch/encode, then `dvc repro encode`",
        ),
        ("ids out of order or repeated", out_of_order, anew),
    ]
    if images is not None:
        wanted = {image.image_id: image.sha256 for image in images}
        changed = [i for i in ids if i in wanted and wanted[i] != found[i]]
        faults += [
            ("encoded from other bytes than are listed", changed, "run `dvc repro encode`"),
            ("listed but not in the store", sorted(wanted.keys() - found.keys()), "run `dvc repro encode`"),
            ("in the store but not listed", sorted(found.keys() - wanted.keys()), "run `dvc repro encode`"),
        ]
    return [Fault(what, tuple(of), remedy) for what, of, remedy in faults if of]
