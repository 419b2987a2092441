"""What the page asks, answered without a server and without a model.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_app_answers.py
"""

import base64
import io

import pytest
from PIL import ExifTags, Image

from pipeline.errors import PipelineError
from pipeline.regions.regions import REGIONS
from tests.unit.vlm.app_client import FakeCaptioner, png
from vlm.app.answers import MAX_REGIONS, answer, preview, requested_regions


def picture(data_address: str) -> Image.Image:
    kind, _, content = data_address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_preview_is_small_and_says_the_size_of_the_original() -> None:
    shown = preview(png(2600, 300), max_megapixels=1)
    assert (shown["width"], shown["height"]) == (2600, 300)
    assert picture(shown["picture"]).size == (1280, 148)


def test_a_preview_is_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.new("RGB", (60, 40)).save(file, format="JPEG", exif=exif)
    shown = preview(file.getvalue(), max_megapixels=1)
    assert (shown["width"], shown["height"]) == picture(shown["picture"]).size == (40, 60)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"0 bytes"),
        (b"%PDF-1.7 and so on", "not a readable image. Use one of: JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image"),
        (png()[:-40], "truncated or damaged"),
        (png(1001, 1000), "1001 x 1000 pixels, too many: --max-megapixels is 1."),
    ],
)
def test_an_upload_that_is_no_image_or_too_large_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        preview(content, max_megapixels=1)
    with pytest.raises(PipelineError, match=message):
        answer(FakeCaptioner().caption_many, content, [REGIONS["full"]], max_megapixels=1)


def test_requests_in_words_and_boxes_become_regions_in_their_order() -> None:
    found = requested_regions(
        ["Describe the top-right corner", "0.1,0,0.5,1", "a dog?", "the left and the right"]
    )
    assert [(region.name, region.box) for region in found] == [
        ("top-right", (0.5, 0.0, 1.0, 0.5)),
        ("box", (0.1, 0.0, 0.5, 1.0)),
        ("full", (0.0, 0.0, 1.0, 1.0)),
        ("left", (0.0, 0.0, 0.5, 1.0)),
        ("right", (0.5, 0.0, 1.0, 1.0)),
    ]


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([""], "empty.* full, top-left"),
        (["the middle of the left half"], "the middle of the left half"),
        (["0.5,0,1.5,1"], "0.5,0,1.5,1"),
        (["left " * 100], "500 characters; allowed: 300"),
        ([], "0 regions at once; allowed: 1 to 8"),
        # Refused before any is parsed: none of these can be.
        (["the middle of the left half"] * (MAX_REGIONS + 1), "9 regions at once"),
        (["the left and the right"] * MAX_REGIONS, "16 regions at once"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(requests: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        requested_regions(requests)


def test_each_answer_has_caption_and_crop_of_its_region() -> None:
    captioner = FakeCaptioner()
    wanted = [REGIONS["left"], *requested_regions(["30,0,60,20"])]
    left, box = answer(captioner.caption_many, png(60, 40), wanted, max_megapixels=1)
    assert captioner.calls == 1
    assert (left["region"], left["box"], left["caption"], left["finished"]) == (
        "left", (0.0, 0.0, 0.5, 1.0), "the left of 60 x 40", True,
    )  # fmt: skip
    # A box in pixels is answered in fractions.
    assert (box["region"], box["box"]) == ("box", (0.5, 0.0, 1.0, 0.5))
    for one, size, color in ((left, (30, 40), "red"), (box, (30, 20), "blue")):
        crop = picture(one["picture"]).convert("RGB")
        assert crop.size == size
        red, _, blue = crop.getpixel((15, 10))  # type: ignore[misc]
        assert (red > 200, blue > 200) == (color == "red", color == "blue")


def test_a_box_beyond_the_image_is_refused() -> None:
    with pytest.raises(PipelineError, match="60 x 40 pixels"):
        answer(FakeCaptioner().caption_many, png(60, 40), requested_regions(["0,0,61,10"]), max_megapixels=1)
