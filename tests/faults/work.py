"""How much a stage does, counted where it does it: images encoded, steps trained, captions made.

A killed stage is counted too, so that the next run can be checked for work that it does again.
"""

from typing import Any

from torch import Tensor

from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.params.schema import Params
from pipeline.regions.captioner import BATCH_SIZE
from pipeline.training.cost import CostMeter
from pipeline.vision.transformers_encoder import TransformersEncoder


def count_work(counted: Any) -> None:
    """Count finished work of this process in `counted.value`, from now on."""
    encode, add, caption = TransformersEncoder.encode, CostMeter.add, FeatureCaptioner.caption

    def counting_encode(self: TransformersEncoder, pixels: Tensor) -> Tensor:
        features = encode(self, pixels)
        # An encoder tries a blank image before it has a spec.
        counted.value += len(pixels) if hasattr(self, "spec") else 0
        return features

    def counting_add(self: CostMeter, captions: int) -> None:
        add(self, captions)
        counted.value += 1

    def counting_caption(*args: Any, **kwargs: Any) -> Any:
        for made in caption(*args, **kwargs):
            counted.value += 1
            yield made

    setattr(TransformersEncoder, "encode", counting_encode)  # noqa: B010
    setattr(CostMeter, "add", counting_add)  # noqa: B010
    setattr(FeatureCaptioner, "caption", counting_caption)  # noqa: B010


def lost_by_a_kill(stage: str, params: Params) -> int:
    """Return what one kill may cost of that work, by docs/reliability.md; other stages count none."""
    return {
        # One batch is being encoded while two wait to be written.
        "encode": 3 * int(params.runtime.encode_batch_size),
        # `save_every_seconds` is nothing: every step is saved.
        "train": 1,
        "evaluate": int(params.runtime.generate_batch_size),
        # A batch of requests: each is encoded, then captioned.
        "regions": 2 * BATCH_SIZE,
    }.get(stage, 0)
