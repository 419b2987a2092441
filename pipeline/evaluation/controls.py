"""The captions of the controls for the test images: computed once, and stored in the scratch folder."""

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.captions import SPLITS, CaptionRecord, select_split
from pipeline.files.json_files import digest
from pipeline.files.prediction_cache import PredictionCache
from pipeline.metrics.consensus import Consensus
from pipeline.metrics.controls import constant_caption
from pipeline.result_code import CONTROLS
from pipeline.retrieval.neighbors import Neighbors

# Dev images, at most, on which the number of images of the consensus is chosen.
_DEV_IMAGES = 1000


def control_captions(
    neighbors: Neighbors, records: Sequence[CaptionRecord], scratch: Path
) -> tuple[dict[str, dict[str, str]], int]:
    """Return each control's caption of each test image, and how many train images the consensus is of.

    The captions are by the keys of `metrics.scores.CONTROLS`, without `shuffled`, which is the model's.
    What lies in `scratch` under the digests of captions, and with neighbors where they matter, is not
    computed again.
    """
    train, dev, test = (select_split(records, split) for split in SPLITS)
    dev = dev[:: math.ceil(len(dev) / _DEV_IMAGES)]
    shared = {"code": CONTROLS.digests(), "captions": _captions_digest(train)}
    constant = PredictionCache(scratch, {"control": "constant", **shared}, 1)
    if constant.missing:
        constant.add(0, [{"caption": constant_caption({r.image_id: r.texts for r in train})}])
    test_rows, dev_rows = (neighbors.lookup([r.image_id for r in split]) for split in (test, dev))
    rows = [test_rows.tolist(), dev_rows.tolist()]
    own = {"control": "neighbors", "rows": rows, "dev": _captions_digest(dev)}
    similar = PredictionCache(scratch, shared | own, len(test))
    if similar.missing:
        consensus = Consensus([record.texts for record in train])
        images = consensus.choose_neighbors(dev_rows, [record.texts for record in dev])
        captioned = [
            {
                "nearest": train[row[0]].texts[0] if row[0] >= 0 else "",
                "consensus": consensus.caption(row[:images]),
                "images": images,
            }
            for row in test_rows
        ]
        similar.add(0, captioned)
    ids = [record.image_id for record in test]
    captions = {"constant": {image_id: str(constant.rows[0]["caption"]) for image_id in ids}}
    for name in ("nearest", "consensus"):
        captions[name] = dict(zip(ids, (row[name] for row in similar.rows), strict=True))
    return captions, int(similar.rows[0]["images"])


def _captions_digest(records: Sequence[CaptionRecord]) -> str:
    """Return the SHA-256 (hex) over image ids and captions, without one text of them all."""
    return digest([digest([record.image_id, record.texts]) for record in records])
