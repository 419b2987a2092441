"""A feature store looked into as a whole: what is inside, and whether all of it is good.

Stages check what they read; this reads everything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.captions import ImageRecord
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.hardware.progress import track

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


@dataclass
class Fault:
    """One kind of fault, the first images that have it, how many have, and what to do."""

    what: str
    remedy: str
    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, image_id: str) -> None:
        """Count an image that has this fault."""
        self.count += 1
        if self.count <= _NAMED:
            self.named.append(image_id)

    def __str__(self) -> str:
        more = f" and {self.count - _NAMED:,} more" if self.count > _NAMED else ""
        return f"{self.what}: {', '.join(self.named)}{more}; {self.remedy}."


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

    Row by row, so memory holds the features of one image.

    Args:
        path: the store.
        images: what it should hold, from images.jsonl; None: that is not compared.

    Returns:
        The faults, each with the images that have it; none for a good store.

    Raises:
        PipelineError: for a file that cannot be opened as a store at all.
    """
    anew = "delete the file and run `dvc repro encode`"
    damaged = Fault("checksum wrong or unreadable", anew)
    infinite = Fault(
        "values that are not finite", "delete the file and .scratch/encode, then `dvc repro encode`"
    )
    out_of_order = Fault("ids out of order or repeated", anew)
    before: str | None = None
    with FeatureStore(path) as store:
        for image_id, _, values in track(store.rows(), "verify", total=len(store)):
            if isinstance(values, PipelineError):
                damaged.add(image_id)
            elif not np.isfinite(values).all():
                infinite.add(image_id)
            if before is not None and before >= image_id:
                out_of_order.add(image_id)
            before = image_id
        faults = [damaged, infinite, out_of_order]
        # Two lists can be compared in one pass where both are sorted.
        if images is not None and not out_of_order.count:
            faults += _compare(zip(store.image_ids, store.sha256, strict=True), images)
    return [fault for fault in faults if fault.count]


def _compare(found: Iterable[tuple[str, str]], images: Iterable[ImageRecord]) -> list[Fault]:
    """What differs between the ids and digests of a store and a list of images, both sorted by id."""
    again = "run `dvc repro encode`"
    changed = Fault("encoded from other bytes than are listed", again)
    missing = Fault("listed but not in the store", again)
    surplus = Fault("in the store but not listed", again)
    rows, listed = iter(found), iter(images)
    row, image = next(rows, None), next(listed, None)
    while row is not None or image is not None:
        if row is None or (image is not None and image.image_id < row[0]):
            assert image is not None
            missing.add(image.image_id)
            image = next(listed, None)
        elif image is None or row[0] < image.image_id:
            surplus.add(row[0])
            row = next(rows, None)
        else:
            if row[1] != image.sha256:
                changed.add(image.image_id)
            row, image = next(rows, None), next(listed, None)
    return [changed, missing, surplus]
