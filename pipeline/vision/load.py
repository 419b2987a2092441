"""Loading the image encoder that the parameters name."""

from pathlib import Path

import torch

from pipeline.params.schema import EncoderParams
from pipeline.pretrained.pretrained import ENCODER, resolve_model
from pipeline.pretrained.wheels import is_wheel
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.transformers_encoder import TransformersEncoder


def load_encoder(
    params: EncoderParams, device: torch.device, model_cache: Path | None = None
) -> ImageEncoder:
    """Load the encoder that `params` name. Raises PipelineError if it is unavailable or does not fit them."""
    # By default CUDA's convolutions round their input to ten bits on GPUs that can (TF32).
    torch.backends.cudnn.allow_tf32 = False
    folder = resolve_model(params.name, params.revision, model_cache, ENCODER)
    if is_wheel(params.name):
        from pipeline.vision.efficientnet import EfficientNetEncoder

        return EfficientNetEncoder(params, folder, device)
    return TransformersEncoder(params, folder, device)
