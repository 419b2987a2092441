"""The sample's encoder: EfficientNet-Lite0 (ImageNet) and the colors of each patch.

The last layer of a network trained to classify knows shapes and textures, but hardly colors. So each patch
also carries a soft RGB histogram, weighted to count as much as the network's channels.
B: batch, P: patches, D_v: 1280 channels + 64 colors.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams
from pipeline.vision.encoder import EncoderSpec, select_tokens

_IMAGE_SIZE = 224
_SIDE = 7  # the network's last layer is 7 x 7
_LEVELS = 4  # of each of R, G, B: 64 colors
# Root mean square norm of a patch's 1280 channels over photographs and scenes. The histogram's square root
# has norm 1; multiplied by this it weighs as much.
_COLOR_NORM = 20.0


class EfficientNetEncoder:
    """EfficientNet-Lite0's last feature map, with a color histogram of each patch."""

    def __init__(self, params: EncoderParams, folder: Path, device: torch.device) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        if params.layer != -1:
            raise PipelineError(f"encoder.layer is {params.layer}, but {params.name} has only -1.")
        self._network = EfficientNet.from_name("efficientnet-lite0")
        self._network.load_state_dict(load_file(folder / "model.safetensors"))
        self._network.requires_grad_(False).eval().to(device)
        self._device = device
        self._params = params
        blank = torch.zeros(1, 3, _IMAGE_SIZE, _IMAGE_SIZE)
        # Features follow from the constants: changing one must not reuse old features.
        preprocessing = (
            f"squash bicubic {_IMAGE_SIZE}, (rgb - 127) / 128, histogram {_LEVELS}^3 sqrt x {_COLOR_NORM:g}"
        )
        self.spec = EncoderSpec.from_model(params, folder, _IMAGE_SIZE, preprocessing, self.encode(blank))

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image -> pixels `[3, 224, 224]`.

        The whole image is squeezed into the square: a center crop would cut off what regions ask for.
        """
        resized = image.resize((_IMAGE_SIZE, _IMAGE_SIZE), Image.Resampling.BICUBIC)
        pixels = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1), dtype=np.float32)  # [3, S, S]
        pixels -= 127
        pixels /= 128
        return torch.from_numpy(pixels)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, 3, 224, 224]` -> features `[B, P, 1344]`."""
        pixels = pixels.to(self._device, non_blocking=True)
        shapes = self._network.extract_features(pixels).flatten(2).transpose(1, 2)  # [B, 49, 1280]
        colors = _color_histogram(pixels * 128 + 127)  # [B, 49, 64]
        # There is no class token.
        shapes = select_tokens(shapes[:, :0], shapes, self._params)  # [B, P, 1280]
        colors = select_tokens(colors[:, :0], colors, self._params)  # [B, P, 64]
        # The square root tempers large areas; it follows the pooling, so that its norm stays 1.
        return torch.cat([shapes, colors.sqrt() * _COLOR_NORM], dim=2)


def _color_histogram(rgb: Tensor) -> Tensor:
    """Compute the share of each of 64 colors in each patch: `[B, 3, S, S]` (0..255) -> `[B, 49, 64]`.

    Soft: a value between two of a channel's levels counts for both, in proportion to its nearness.
    """
    rgb = rgb[:, :, ::4, ::4] / 255 * (_LEVELS - 1)
    levels = torch.arange(_LEVELS, device=rgb.device).view(1, 1, _LEVELS, 1, 1)
    weights = (1 - (rgb.unsqueeze(2) - levels).abs()).clamp(min=0)  # [B, 3, levels, S/4, S/4]
    red, green, blue = weights.unbind(1)
    cube = torch.einsum("brhw,bghw,bchw->brgchw", red, green, blue).flatten(1, 3)  # [B, 64, S/4, S/4]
    return torch.nn.functional.adaptive_avg_pool2d(cube, _SIDE).flatten(2).transpose(1, 2)
