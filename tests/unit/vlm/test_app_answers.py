"""What the page asks, answered without a server and without a model.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_app_answers.py
"""

import base64
import io

import pytest
from PIL import ExifTags, Image

from tests.unit.vlm.app_client import FakeCaptioner, png
from vlm.app.answers import answer, preview, question_of, requested_regions


def picture(data_address: str) -> Image.Image:
    kind, _, content = data_address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_preview_is_small_and_upright_and_says_the_size_of_the_original() -> None:
    small = preview(png(2600, 300), max_megapixels=1)
    assert (small["width"], small["height"]) == (2600, 300)
    assert picture(small["picture"]).size == (1280, 148)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.new("RGB", (60, 40)).save(file, format="JPEG", exif=exif)
    upright = preview(file.getvalue(), max_megapixels=1)
    assert (upright["width"], upright["height"]) == picture(upright["picture"]).size == (40, 60)


def test_each_answer_has_caption_and_crop_of_its_region() -> None:
    captioner = FakeCaptioner()
    regions = requested_regions(["left", "30,0,60,20"])
    left, box = answer(captioner.caption_many, png(60, 40), regions, max_megapixels=1)
    assert captioner.calls == 1
    assert (left["region"], left["caption"], left["finished"]) == ("left", "the left of 60 x 40", True)
    # A box in pixels is answered in fractions.
    assert (box["region"], box["box"]) == ("box", (0.5, 0.0, 1.0, 0.5))
    for part, size, color in ((left, (30, 40), "red"), (box, (30, 20), "blue")):
        crop = picture(part["picture"]).convert("RGB")
        assert crop.size == size
        red, _, blue = crop.getpixel((15, 10))  # type: ignore[misc]
        assert (red > 200, blue > 200) == (color == "red", color == "blue")


@pytest.mark.parametrize(
    ("request_", "asked_about"),
    [
        ("what is behind the man", "full"),
        ("What colour is the ring?", "full"),
        ("How many dogs are there?", "full"),
        ("Is there a red circle?", "full"),
        ("Which corner is empty?", "full"),
        ("what is the dog in the top left doing", "top-left"),
        ("What color is the ring in the top-left corner?", "top-left"),
        ("What is in the top-left corner?", None),
        ("What's at the top?", None),
        ("What is shown in the upper right?", None),
        ("What is happening on the left?", None),
        ("How does the left half look?", None),
        ("Which object is in the left third?", None),
        ("what do you see on the left side?", None),
        ("Describe the dog", None),
        ("Compare the left and the right", None),
        ("top left?", None),
        ("0.5,0,1,0.5", None),
    ],
)
def test_only_a_question_of_what_is_there_goes_to_the_model(request_: str, asked_about: str | None) -> None:
    question = question_of([request_])
    assert question == (request_ if asked_about else None)
    regions = requested_regions([request_])
    (first, *_) = answer(FakeCaptioner().caption_many, png(60, 40), regions, 1, question)
    assert first["question"] == question
    if asked_about:
        assert first["region"] == asked_about
        assert first["caption"].startswith(f"{request_} {asked_about} of ")


def test_several_requests_are_regions_to_compare() -> None:
    assert question_of(["left", "right"]) is None
    assert question_of(["What color is the ring?" * 20]) is None  # refused as too long
