"""What people pass as an image from Python: a path, the content of a file, pixels."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.errors import PipelineError, shorten
from pipeline.images.images import image_from_array, image_from_bytes, image_from_pil, open_image

ImageLike = str | PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8] | Tensor
Images = ImageLike | Iterable[ImageLike]

_LIMIT = "max_megapixels"


def is_image(value: object) -> bool:
    """Whether a value is meant as one image, even if it can be iterated over."""
    return (
        isinstance(value, str | PathLike | bytes | bytearray | Image.Image | np.ndarray | Tensor)
        or hasattr(value, "read")
        or not hasattr(value, "__iter__")
    )


def open_image_like(image: ImageLike, max_megapixels: float) -> Image.Image:
    """Open an image in RGB, upright. A file object is read from where it stands, and not closed.

    Raises PipelineError for anything that is not an image, and for a file of more than `max_megapixels`; PIL
    images, arrays and tensors may be larger.
    """
    if isinstance(image, str | PathLike):
        return open_image(Path(image), max_megapixels, limit=_LIMIT)
    if isinstance(image, Image.Image):
        try:
            image.load()
        # Damaged files make decoders raise many kinds; a closed one, AttributeError.
        except Exception as error:
            raise PipelineError(
                f"the image is closed, truncated or damaged: {error}. Fix: open it again or leave it out."
            ) from error
        return image_from_pil(image)
    if isinstance(image, np.ndarray):
        return image_from_array(image)
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            raise PipelineError(
                f"an image tensor has shape {tuple(image.shape)} and type {image.dtype}. Use uint8 of shape "
                "(3, H, W); of a batch, pass list(batch)."
            )
        return image_from_array(image.permute(1, 2, 0).cpu().numpy())
    try:
        content = image.read() if hasattr(image, "read") else image
    except (OSError, ValueError) as error:  # also a file that is closed, or was opened without "b"
        raise PipelineError(f"the image cannot be read ({error}). Pass a file opened with 'rb'.") from error
    if isinstance(content, bytes | bytearray):
        return image_from_bytes("the image", bytes(content), max_megapixels, _LIMIT)
    raise PipelineError(
        f"{shorten(content)} is not an image. Pass a path, bytes, a file opened with 'rb', a PIL image, an "
        "array (H, W, 3) or a tensor (3, H, W) of uint8, or a list of these."
    )
