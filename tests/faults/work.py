"""How much a stage does, counted where it does it: images encoded, steps trained, captions made.

Of a killed stage too, so that it can be told what the next run did again.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from torch import Tensor

from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.params.schema import Params
from pipeline.regions.captioner import BATCH_SIZE
from pipeline.training.optimizer import StepOptimizer
from pipeline.vision.transformers_encoder import TransformersEncoder


def count_work(counted: Any) -> None:
    """Count in `counted.value`, from now on in this process, what is finished."""

    def after(function: Callable[..., Any], amount: Callable[..., int]) -> Callable[..., Any]:
        @wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Any:
            done = function(*args, **kwargs)
            counted.value += amount(*args)
            return done

        return counting

    def each(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for done in function(*args, **kwargs):
                counted.value += 1
                yield done

        return counting

    encoder, optimizer, model = TransformersEncoder, StepOptimizer, FeatureCaptioner
    setattr(encoder, "encode", after(encoder.encode, _images))  # noqa: B010
    setattr(optimizer, "apply", after(optimizer.apply, lambda *_: 1))  # noqa: B010
    setattr(model, "caption", each(model.caption))  # noqa: B010


def _images(encoder: TransformersEncoder, pixels: Tensor) -> int:
    """Images that were encoded; the blank one that an encoder is tried with before it has a spec is none."""
    return len(pixels) if hasattr(encoder, "spec") else 0


def lost_by_a_kill(stage: str, params: Params) -> int:
    """What one kill may cost of that work, by docs/reliability.md; other stages do none that is counted."""
    if stage == "encode":
        # One batch is being encoded while two wait for being written.
        return 3 * params.runtime.encode_batch_size
    if stage == "train":
        # As often as every step: `save_every_seconds` is nothing.
        return 1
    if stage == "evaluate":
        return params.runtime.generate_batch_size
    return BATCH_SIZE if stage == "regions" else 0
