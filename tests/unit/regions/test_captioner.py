"""The captioner says what the evaluation said, of whole images and of regions, and refuses other models.

Run: .venv/bin/python -m pytest tests/unit/regions/test_captioner.py
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Captioner
from pipeline.errors import PipelineError
from pipeline.features.store import FeatureStore
from pipeline.images.images import crop, open_image
from pipeline.model.checkpoints import load_checkpoint, save_checkpoint
from pipeline.regions.regions import REGIONS, Region, region_from_name
from pipeline.vision.load import load_encoder
from tests.tiny_models import save_clip, save_llama
from tests.unit.project import Project


def test_the_captioner_says_what_the_evaluation_said(project: Project, captioner: Captioner) -> None:
    """From the image file instead of the cached features."""
    said = {
        image.image_id: captioner.caption(image.path, generate=project.params.generate).text
        for image in project.test_images
    }
    assert said == project.predictions("test")
    assert len(set(said.values())) > 1


def test_cached_features_are_those_of_the_full_region(project: Project) -> None:
    encoder = load_encoder(project.params.encoder, torch.device("cpu"))
    with FeatureStore(project.data / "features.h5") as store:
        for image in project.test_images:
            picture = crop(open_image(Path(image.path), max_megapixels=1), REGIONS["full"].box)
            fresh = encoder.encode(encoder.preprocess(picture).unsqueeze(0))
            cached = torch.from_numpy(store.read([image.image_id])).float()
            assert torch.allclose(fresh, cached, atol=1e-3, rtol=1e-3)


def test_a_path_a_picture_and_an_array_are_the_same_image(project: Project, captioner: Captioner) -> None:
    path = Path(project.test_images[0].path)
    with Image.open(path) as picture:
        expected = captioner.caption(path)
        assert captioner.caption(str(path)) == expected
        assert captioner.caption(picture) == expected
        assert captioner.caption(np.asarray(picture)) == expected
    assert expected.region == REGIONS["full"]


def test_a_region_is_captioned_as_its_crop(project: Project, captioner: Captioner) -> None:
    path = Path(project.test_images[0].path)
    box = (0.0, 0.0, 0.5, 0.5)
    part = captioner.caption(crop(open_image(path, max_megapixels=1), box))
    named = captioner.caption(path, region="top-left")
    boxed = captioner.caption(path, region=box)
    assert {(one.text, one.finished) for one in (part, named, boxed)} == {(part.text, part.finished)}
    assert (named.region, boxed.region.box) == (REGIONS["top-left"], box)
    assert captioner.ask("Describe the object in the top-left corner", path) == named
    assert captioner.ask("Describe the image", path) == captioner.caption(path)


def test_many_images_are_answered_in_their_order(project: Project, captioner: Captioner) -> None:
    paths = [image.path for image in project.test_images]
    requests = [(path, REGIONS[name]) for path in paths for name in ("full", "top-left", "right")]
    answers = captioner.caption_many(requests)
    assert [answer.region for answer in answers] == [region for _, region in requests]
    assert answers[:4] == [captioner.caption(path, region=region.name) for path, region in requests[:4]]
    for asked in (paths, tuple(paths)):
        assert captioner.caption(asked, region="top-left") == answers[1::3]
    assert captioner.caption_many([]) == captioner.caption([]) == []


def test_a_request_for_several_regions_gives_several_captions(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    answers = captioner.ask_all("Compare the left and the right", path)
    assert answers == [captioner.caption(path, region=name) for name in ("left", "right")]
    with pytest.raises(PipelineError, match="names more than one region: left and right"):
        captioner.ask("Compare the left and the right", path)


def test_a_box_in_pixels_is_answered_in_fractions(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    in_pixels = captioner.caption(path, region=(0, 0, 32, 64))
    assert in_pixels.region.box == REGIONS["left"].box
    assert in_pixels.text == captioner.caption(path, region="left").text


def test_scores_are_means_over_tokens_whatever_the_search(project: Project, captioner: Captioner) -> None:
    path = project.test_images[0].path
    for beams in (1, 3):
        generate = replace(project.params.generate, beams=beams)
        alone = captioner.caption(path, generate=generate)
        batch = captioner.caption([path] * 3, generate=generate)
        assert alone.score < 0
        assert [one.score for one in batch] == pytest.approx([alone.score] * 3, abs=1e-4)


def test_a_checkpoint_is_found_by_its_folder_and_without_its_suffix(project: Project) -> None:
    path = project.test_images[0].path
    expected = Captioner.load(project.best, "cpu").caption(path)
    for name in (project.data, project.data / "best"):
        assert Captioner.load(name, "cpu").caption(path) == expected
    with pytest.raises(
        PipelineError, match=r"checkpoints holds no best\.safetensors; .*epoch_001\.safetensors"
    ):
        Captioner.load(project.data / "checkpoints")
    with pytest.raises(PipelineError, match=r"nothing does not exist"):
        Captioner.load(project.data / "nothing")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("top-left and bottom", "more than one region"),
        ((0.5, 0.0, 0.2, 1.0), "0.5,0.0,0.2,1.0"),
        ("0,0,2.5,1", "0,0,2.5,1"),
        ("asdf", "'asdf'.*full, top-left"),
        ((0, 0, 65, 64), "beyond the image of 64 x 64 pixels"),
    ],
)
def test_a_region_that_is_none_is_refused(
    project: Project, captioner: Captioner, region: Any, message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        captioner.caption(project.test_images[0].path, region=region)


def test_what_cannot_be_captioned_has_its_error_and_the_others_their_captions(
    project: Project, captioner: Captioner, tmp_path: Path
) -> None:
    good = project.test_images[0].path
    requests: list[tuple[str | Path, Region]] = [
        (good, REGIONS["full"]),
        (tmp_path / "none.png", REGIONS["full"]),
        (good, region_from_name("0,0,65,64")),
        (good, REGIONS["full"]),
    ]
    first, no_image, beyond, last = captioner.caption_each(requests)
    assert first == last == captioner.caption(good)
    assert "none.png does not exist" in str(no_image)
    assert str(beyond).startswith(f"{good}: the box 0,0,65,64px reaches beyond the image of 64 x 64 pixels;")
    with pytest.raises(PipelineError, match=r"none\.png does not exist"):
        captioner.caption_many(requests)
    with pytest.raises(PipelineError, match=r"an image array has shape \(2, 2\) and type float64"):
        captioner.caption(np.zeros((2, 2)))  # type: ignore[arg-type]


def trained_with(project: Project, folder: Path, part: str, name: Path) -> Path:
    """The best checkpoint, naming another folder for one of its frozen models."""
    trained = load_checkpoint(project.best)
    facts: dict[str, Any] = {part: {**getattr(trained.info, part), "name": str(name)}}
    changed = folder / "checkpoint.safetensors"
    save_checkpoint(changed, trained.projector.state_dict(), replace(trained.info, **facts))
    return changed


def test_an_encoder_with_other_weights_is_refused(project: Project, tmp_path: Path, tiny_clip: Path) -> None:
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    checkpoint = trained_with(project, tmp_path, "encoder", folder)
    assert isinstance(Captioner.load(checkpoint, "cpu"), Captioner)

    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PipelineError, match=r"was trained with encoder weights '.*', but .*clip now has"):
        Captioner.load(checkpoint, "cpu")


def test_an_encoder_with_other_preprocessing_is_refused(project: Project, tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    processor = folder / "preprocessor_config.json"
    assert '"do_normalize": true' in processor.read_text()
    processor.write_text(processor.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    checkpoint = trained_with(project, tmp_path, "encoder", folder)
    with pytest.raises(PipelineError, match=r"was trained with encoder preprocessing '.*', but"):
        Captioner.load(checkpoint, "cpu")


def test_a_language_model_with_other_weights_is_refused(project: Project, tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "llama", seed=1)
    checkpoint = trained_with(project, tmp_path, "language_model", folder)
    with pytest.raises(PipelineError, match=r"weights of .*llama changed"):
        Captioner.load(checkpoint, "cpu")
