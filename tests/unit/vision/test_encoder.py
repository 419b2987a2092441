"""Frozen encoders: CLIP's own hidden states, the tokens asked for, and every fact in the spec."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import AutoImageProcessor, CLIPVisionModel

from pipeline.errors import PipelineError
from pipeline.params.schema import EncoderParams
from pipeline.vision.encoder import ImageEncoder
from pipeline.vision.load import load_encoder
from tests.pictures import noise

CPU = torch.device("cpu")
TINY_CLIP, TINY_LLAMA = Path("tiny-clip"), Path("tiny-llama")  # stand for the fixtures' folders
SIDE, WIDTH, LAYERS = 4, 32, 3  # of the tiny CLIP
EFFICIENTNET = "wheel:efficientnet-lite0"
SHAPES, COLORS = 1280, 64  # widths of the two parts of EfficientNet's features


def clip_params(folder: Path, **changes: Any) -> EncoderParams:
    return replace(EncoderParams(str(folder), None, layer=-2, tokens="patches", grid=None), **changes)


def encode(encoder: ImageEncoder, images: list[Image.Image]) -> Tensor:
    return encoder.encode(torch.stack([encoder.preprocess(image) for image in images]))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Noise of several sizes and proportions, so that resizing and cropping have something to do."""
    return [noise(*size) for size in ((60, 40), (32, 32), (50, 90), (31, 33))]


@pytest.fixture(scope="module")
def hidden_states(tiny_clip: Path, pictures: list[Image.Image]) -> tuple[Tensor, ...]:
    """The pictures' hidden states by `transformers` itself: `[B, 1 + patches, D_v]` for each layer."""
    processor = AutoImageProcessor.from_pretrained(tiny_clip, backend="pil")
    model = CLIPVisionModel.from_pretrained(tiny_clip).eval()
    pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        states: tuple[Tensor, ...] = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    return states


def efficientnet_params(**changes: Any) -> EncoderParams:
    return replace(EncoderParams(EFFICIENTNET, None, layer=-1, tokens="patches", grid=4), **changes)


@pytest.fixture(scope="module")
def efficientnet() -> ImageEncoder:
    return load_encoder(efficientnet_params(), CPU)


@pytest.mark.parametrize("layer", range(-LAYERS - 1, LAYERS + 1))
def test_features_are_the_hidden_states_of_that_layer(
    tiny_clip: Path, pictures: list[Image.Image], hidden_states: tuple[Tensor, ...], layer: int
) -> None:
    features = encode(load_encoder(clip_params(tiny_clip, layer=layer), CPU), pictures)
    assert features.dtype == torch.float32
    assert torch.equal(features, hidden_states[layer][:, 1:])


def test_each_choice_of_tokens_and_grid(
    tiny_clip: Path, pictures: list[Image.Image], hidden_states: tuple[Tensor, ...]
) -> None:
    """A grid averages neighboring patches, row by row, and leaves the class token alone."""
    hidden = hidden_states[-2]
    cls, patches = hidden[:, :1], hidden[:, 1:]
    square = patches.unflatten(1, (SIDE, SIDE))
    quadrants = torch.stack(
        [square[:, y : y + 2, x : x + 2].mean(dim=(1, 2)) for y in (0, 2) for x in (0, 2)], dim=1
    )
    for tokens, grid, wanted in (
        ("patches", None, patches),
        ("cls", None, cls),
        ("cls+patches", None, hidden),
        ("mean", None, patches.mean(dim=1, keepdim=True)),
        ("patches", 2, quadrants),
        ("cls+patches", 2, torch.cat([cls, quadrants], dim=1)),
        ("patches", SIDE, patches),
    ):
        params = clip_params(tiny_clip, tokens=tokens, grid=grid)
        encoder = load_encoder(params, CPU)
        features, tolerance = encode(encoder, pictures), 1e-6 if grid == 2 else 0
        assert torch.allclose(features, wanted, rtol=0, atol=tolerance), (tokens, grid)
        assert (encoder.spec.num_tokens, encoder.spec.width) == (wanted.shape[1], WIDTH)
        assert encoder.spec.params == params


def test_encoders_are_frozen_and_do_not_mix_images(
    tiny_clip: Path, efficientnet: ImageEncoder, pictures: list[Image.Image]
) -> None:
    """No gradients, and no running statistics that a picture could move."""
    for encoder, tolerance in ((load_encoder(clip_params(tiny_clip), CPU), 1e-5), (efficientnet, 1e-3)):
        features = encode(encoder, pictures)
        alone = torch.cat([encode(encoder, [picture]) for picture in pictures])
        assert not features.requires_grad
        assert torch.allclose(features, alone, atol=tolerance)
        assert torch.equal(encode(encoder, pictures), features)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (clip_params(TINY_CLIP, layer=LAYERS + 1), r"encoder\.layer is 4.* -4 to 3"),
        (clip_params(TINY_CLIP, grid=5), r"encoder\.grid is 5.* 4 x 4 patches"),
        (clip_params(TINY_LLAMA), "cannot be loaded as an image encoder"),
        (efficientnet_params(tokens="cls"), r"encoder\.tokens is cls.* Use patches or mean"),
        (efficientnet_params(layer=-2), r"encoder\.layer is -2.* only -1"),
        (efficientnet_params(grid=8), r"encoder\.grid is 8.* 7 x 7 patches"),
    ],
)
def test_bad_settings_are_refused(tiny_clip: Path, llama: Path, params: EncoderParams, message: str) -> None:
    (llama / "preprocessor_config.json").write_text("{}")
    folders = {str(TINY_CLIP): tiny_clip, str(TINY_LLAMA): llama}
    with pytest.raises(PipelineError, match=message):
        load_encoder(replace(params, name=str(folders.get(params.name, params.name))), CPU)


def test_convolutions_are_never_rounded(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs would compute them in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_encoder(clip_params(tiny_clip), CPU)
    assert not torch.backends.cudnn.allow_tf32


def shape_in(color: str, shape: str = "ellipse") -> Image.Image:
    image = Image.new("RGB", (120, 100), "gray")
    getattr(ImageDraw.Draw(image), shape)((30, 20, 90, 80), fill=color)
    return image


def test_efficientnet_gives_shapes_and_colors_of_a_grid(efficientnet: ImageEncoder) -> None:
    """Pictures that differ in color alone differ in the color part, whose norm is the same for each patch."""
    features = encode(efficientnet, [shape_in("red"), shape_in("blue"), shape_in("red", "rectangle")])
    assert (features.shape, features.dtype) == ((3, 16, SHAPES + COLORS), torch.float32)
    assert (efficientnet.spec.num_tokens, efficientnet.spec.width) == (16, SHAPES + COLORS)
    red, blue, square = colors = features[:, :, SHAPES:]
    assert torch.allclose(colors.norm(dim=2), torch.full((3, 16), 20.0), rtol=1e-3)
    assert (red - blue).norm() > max(20, 2 * (red - square).norm())
    mean = load_encoder(efficientnet_params(tokens="mean", grid=None), CPU).spec
    assert (mean.num_tokens, mean.width) == (1, SHAPES + COLORS)
