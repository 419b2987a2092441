"""The captioner says what the evaluation said, of whole images and of regions, and refuses other models."""

import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Captioner
from pipeline.errors import PipelineError
from pipeline.images.images import crop, open_image
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.regions.regions import REGIONS, Region, region_from_name
from tests.refusals import call_before, refusal
from tests.tiny_models import save_clip, save_llama
from tests.unit.project import Project


@pytest.fixture
def path(project: Project) -> Path:
    return Path(project.test_images[0].path)


def test_the_captioner_says_what_the_evaluation_said(project: Project, captioner: Captioner) -> None:
    """From the image file instead of the cached features."""
    images, generate = project.test_images, project.params.generate
    captions = captioner.caption([image.path for image in images], generate=generate)
    predictions = {i.image_id: c.text for i, c in zip(images, captions, strict=True)}
    assert predictions == project.predictions("test")
    assert len(set(predictions.values())) > 1


def test_whatever_holds_an_image_is_captioned_alike(path: Path, captioner: Captioner) -> None:
    expected = captioner.caption(path)
    content, pixels = path.read_bytes(), np.array(open_image(path, max_megapixels=1))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    with Image.open(path) as picture, path.open("rb") as file:
        for image in (str(path), picture, pixels, tensor, content, io.BytesIO(content), file):
            assert captioner.caption(image) == expected
    assert expected.region == REGIONS["full"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "None is not an image. Pass a path"),
        (7, "7 is not an image"),
        (io.StringIO("text"), "'text' is not an image.*'rb'"),
        (b"no image", "the image is not a readable image"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"\(2, 3, 8, 8\).*list\(batch\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"\(8, 8, 3\).*\(3, H, W\)"),
        (torch.zeros(3, 8, 8, dtype=torch.bfloat16), "bfloat16"),
    ],
)
def test_what_is_no_image_gets_a_sentence(captioner: Captioner, image: Any, message: str) -> None:
    refusal(captioner.caption, image, match=message)


def test_several_images_may_come_one_by_one(project: Project, captioner: Captioner) -> None:
    """From a list, a generator or any other iterable: a caption for each, or a list for each."""
    paths = [image.path for image in project.test_images][:3]
    expected = captioner.caption(paths, region="left")
    assert captioner.caption((path for path in paths), region="left") == expected
    assert captioner.ask("the left", dict.fromkeys(paths)) == expected
    both = captioner.ask_all("Compare the left and the right", iter(paths))
    assert both == [[captioner.caption(path, region) for region in ("left", "right")] for path in paths]
    with open(paths[0], "rb") as file:  # noqa: PTH123
        assert captioner.ask_all("Compare the left and the right", file) == both[0]


def test_images_may_share_one_buffer(project: Project, captioner: Captioner) -> None:
    """As frames of a video do."""
    images = [open_image(Path(image.path), max_megapixels=1) for image in project.test_images]
    buffer = np.empty((64, 64, 3), dtype=np.uint8)

    def frames() -> Iterator[np.ndarray[Any, Any]]:
        for image in images:
            buffer[:] = np.asarray(image)
            yield buffer

    captions = captioner.caption(images)
    assert captioner.caption(frames()) == captions
    assert len({caption.text for caption in captions}) > 1


def test_the_region_of_an_answer_can_be_asked_for(path: Path, captioner: Captioner) -> None:
    for region in ("left third", (0, 0, 32, 32)):
        answer = captioner.caption(path, region=region)
        assert captioner.caption(path, region=answer.region) == answer


def test_loading_prints_nothing(
    project: Project,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither bars nor the advice of libraries, in a program that did not silence them."""
    caplog.set_level(logging.WARNING, "bitsandbytes")
    library = logging.getLogger("bitsandbytes.backends.cpu.ops")
    call_before(monkeypatch, FeatureCaptioner, "load", lambda *_: library.warning("pip install kernels"))
    Captioner.load(project.best, "cpu")
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    library.warning("as before")
    assert caplog.messages == ["as before"]


def test_a_region_is_captioned_as_its_crop(path: Path, captioner: Captioner) -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    part = captioner.caption(crop(open_image(path, max_megapixels=1), box))
    assert captioner.ask("Describe the object in the top-left corner", path) == replace(
        part, region=REGIONS["top-left"]
    )
    for boxed in (box, (0, 0, 32, 32)):
        assert captioner.caption(path, region=boxed) == replace(part, region=Region("box", box))


def test_a_checkpoint_is_found_by_folder_or_stem(project: Project, path: Path, captioner: Captioner) -> None:
    for name in (project.data, project.data / "best"):
        assert Captioner.load(name, "cpu").caption(path) == captioner.caption(path)
    refusal(Captioner.load, project.data / "nothing", match=r"nothing.*`dvc repro`")


def test_an_error_takes_the_place_of_its_caption(path: Path, captioner: Captioner, tmp_path: Path) -> None:
    half = io.BytesIO(path.read_bytes()[:100])
    closed = io.BytesIO()
    closed.close()
    text = io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff"), encoding="utf-8")
    requests: list[tuple[Any, Region]] = [
        (path, REGIONS["full"]),
        (tmp_path / "none.png", REGIONS["full"]),
        (path, region_from_name("0,0,65,64")),
        (Image.new("RGB", (64, 64)), region_from_name("0,0,65,64")),
        (np.zeros((2, 2)), REGIONS["full"]),
        (closed, REGIONS["full"]),
        (text, REGIONS["full"]),
        (Image.open(half), REGIONS["full"]),
        (path, REGIONS["full"]),
    ]
    first, no_image, beyond, beyond_picture, no_pixels, *unreadable, last = captioner.caption_each(requests)
    assert first == last == captioner.caption(path)
    assert str(beyond) == f"{path}: {beyond_picture}"
    assert "0,0,65,64px" in str(beyond_picture)
    assert "float64" in str(no_pixels)
    assert "none.png" in str(no_image)
    for error, reason in zip(unreadable, ("closed file", "'rb'", "truncated"), strict=True):
        assert isinstance(error, PipelineError)
        assert reason in str(error)
    refusal(captioner.caption_many, requests, match=r"none\.png")


def other_preprocessing(folder: Path) -> Path:
    processor = save_clip(folder) / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    return folder


@pytest.mark.parametrize(
    ("part", "save", "difference"),
    [
        ("encoder", save_clip, ""),
        ("encoder", other_preprocessing, "preprocessing"),
        ("language_model", partial(save_llama, seed=1), "weights"),
    ],
)
def test_only_the_models_of_training_are_used(
    project: Project, tmp_path: Path, part: str, save: Callable[[Path], Path], difference: str
) -> None:
    trained = load_checkpoint(project.best)
    moved: dict[str, Any] = {part: {**getattr(trained.info, part), "name": str(save(tmp_path / "copy"))}}
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_checkpoint(checkpoint, trained.projector.state_dict(), replace(trained.info, **moved))
    if not difference:
        assert isinstance(Captioner.load(checkpoint, "cpu"), Captioner)
        return
    refusal(Captioner.load, checkpoint, "cpu", match=difference)
