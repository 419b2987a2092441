"""The pixels of a model's image processor, without repeating its arithmetic for every pixel.

S: side of the encoder's input in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.files.json_files import JsonObject

Pixels = npt.NDArray[np.float32]  # [3, S, S]
# What a processor does to the place of pixels, and to their values.
_AS_BYTES = {"do_rescale": False, "do_normalize": False}
_IN_PLACE = {"do_resize": False, "do_center_crop": False}


class ImageProcessor:
    """The image processor of a model folder, as `transformers` loads it.

    A processor scales and crops bytes, then rescales and normalizes each value, in several passes of
    float64. A byte has 256 values, so the second half is computed once for all of them and then looked up.
    Where that does not give the processor's pixels, bit for bit, the processor computes everything.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError or ValueError where the folder's processor cannot be loaded."""
        from transformers import AutoImageProcessor

        # The Pillow processor: the other one needs torchvision.
        self._processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
        self._values = self._look_up_values()

    def settings(self) -> JsonObject:
        """Return everything that the pixels follow from, as JSON values."""
        settings: JsonObject = self._processor.to_dict()
        return settings

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image of any size -> pixels `[3, S, S]`, float32."""
        if self._values is None:
            return torch.from_numpy(np.ascontiguousarray(self._process(image), dtype=np.float32))
        return torch.from_numpy(_apply(self._values, self._process(image, **_AS_BYTES)))

    def _process(self, image: Image.Image, **changes: bool) -> npt.NDArray[Any]:
        processed = self._processor(images=image, return_tensors="np", **changes)
        pixels: npt.NDArray[Any] = processed["pixel_values"][0]
        return pixels

    def _look_up_values(self) -> Pixels | None:
        """Return `[3, 256]`, what becomes of each byte in each channel; None where more than that happens."""
        all_bytes = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
        values = self._process(all_bytes, **_IN_PLACE)
        if values.shape != (3, 16, 16):
            return None
        table = np.ascontiguousarray(values.reshape(3, 256), dtype=np.float32)
        # A tall image of all bytes, so that scaling and cropping have something to do.
        trial = Image.fromarray(np.resize(np.asarray(all_bytes), (640, 480, 3)))
        as_bytes = self._process(trial, **_AS_BYTES)
        fits = as_bytes.dtype == np.uint8 and as_bytes.shape[0] == 3
        return table if fits and np.array_equal(_apply(table, as_bytes), self._process(trial)) else None


def _apply(table: Pixels, as_bytes: npt.NDArray[np.uint8]) -> Pixels:
    """Look up bytes `[3, S, S]`, each channel in its row of the table `[3, 256]`."""
    pixels = np.empty(as_bytes.shape, dtype=np.float32)
    for channel, values in enumerate(table):
        # A byte cannot be out of range; with `clip` NumPy neither checks that nor buffers the output.
        np.take(values, as_bytes[channel], out=pixels[channel], mode="clip")
    return pixels
