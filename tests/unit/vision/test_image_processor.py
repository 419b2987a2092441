"""A model's own image processor: its pixels, bit for bit, whichever way they are computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, BaseImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from pipeline.vision.image_processor import ImageProcessor
from tests.pictures import noise

SIZES = [(48, 64), (64, 48), (32, 32), (31, 33), (200, 90), (640, 480)]
CLIP = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


@pytest.mark.parametrize(
    "processor",
    [
        pytest.param(CLIPImageProcessorPil(**CLIP), id="clip"),
        pytest.param(CLIPImageProcessorPil(**CLIP, do_rescale=False, do_normalize=False), id="bytes"),
        pytest.param(CLIPImageProcessorPil(**CLIP, image_std=[0.3, 0.2, 0.1]), id="unequal channels"),
        pytest.param(ViTImageProcessorPil(size={"height": 32, "width": 32}), id="vit"),
        pytest.param(SiglipImageProcessorPil(size={"height": 32, "width": 32}), id="siglip"),
        # Padding comes after the values are normalized: its zeros are not the value of a byte.
        pytest.param(
            CLIPImageProcessorPil(**CLIP, do_pad=True, pad_size={"height": 40, "width": 40}), id="padded"
        ),
    ],
)
def test_pixels_are_those_of_the_models_own_processor(processor: BaseImageProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    ours = ImageProcessor(tmp_path)
    theirs: Any = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for size in SIZES:
        image = noise(*size)
        expected = theirs(images=image, return_tensors="pt")["pixel_values"][0]
        assert ours(image).dtype == torch.float32
        assert torch.equal(ours(image), expected.float()), size


def test_a_folder_without_a_processor_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="preprocessor_config"):
        ImageProcessor(tmp_path)
