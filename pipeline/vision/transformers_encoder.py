"""Vision transformers of the `transformers` library as image encoders.

B: batch, S: side of the encoder's input in pixels, P: tokens kept of an image, D_v: their width.
"""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.files.json_files import digest
from pipeline.params.schema import EncoderParams
from pipeline.vision.encoder import EncoderSpec, select_tokens
from pipeline.vision.image_processor import ImageProcessor


class TransformersEncoder:
    """A vision transformer of the `transformers` library; CLIP's is the reference.

    The hidden states of `encoder.layer` are `[CLS, patches...]`, of which `encoder.tokens` keeps some.
    """

    def __init__(self, params: EncoderParams, folder: Path, device: torch.device) -> None:
        from transformers import AutoConfig, AutoModel, CLIPVisionModel

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            is_clip = config.model_type in ("clip", "clip_vision_model")
            model_class = CLIPVisionModel if is_clip else AutoModel
            self.preprocess = ImageProcessor(folder)
            self._model = model_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"encoder.name {params.name} cannot be loaded as an image encoder: "
                f"{' '.join(str(error).split())}. Use a CLIP model or another vision transformer."
            ) from error
        self._model.requires_grad_(False).eval().to(device)
        self._device = device
        self._params = params
        vision = self._model.config
        if not hasattr(vision, "patch_size") or not hasattr(vision, "image_size"):
            raise PipelineError(
                f"encoder.name {params.name} is not a vision transformer with patches of one size."
            )
        layers = vision.num_hidden_layers
        if not -layers - 1 <= params.layer <= layers:
            raise PipelineError(
                f"encoder.layer is {params.layer}, but {params.name} has {layers} layers. "
                f"Use {-layers - 1} to {layers}."
            )
        # Hidden state n is what the first n layers make.
        self._layer = params.layer % (layers + 1)
        if is_clip:
            # The others would be computed for nothing. One stays, at which `transformers` records states. (Of
            # other models a norm may belong to the last layer.)
            del self._model.encoder.layers[max(1, self._layer) :]
        self._side = vision.image_size // vision.patch_size
        blank = torch.zeros(1, 3, vision.image_size, vision.image_size)
        preprocessing = digest(self.preprocess.settings())
        features = self.encode(blank)
        self.spec = EncoderSpec.from_model(params, folder, vision.image_size, preprocessing, features)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, 3, S, S]` -> features `[B, P, D_v]`."""
        output = self._model(
            pixel_values=pixels.to(self._device, non_blocking=True), output_hidden_states=True
        )
        hidden: Tensor = output.hidden_states[self._layer]  # [B, 1 + patches, D_v]
        prefix = hidden.shape[1] - self._side**2
        return select_tokens(hidden[:, :prefix], hidden[:, prefix:], self._params)
