"""The regions stage writes crops, captions and what was right in them."""

import json
import shutil
import weakref
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import Captioner
from pipeline.captions import read_captions, vocabulary
from pipeline.errors import PipelineError
from pipeline.files.json_files import read_jsonl
from pipeline.images.images import open_image
from pipeline.metrics.scene_truth import judge_caption
from pipeline.model.feature_captioner import FeatureCaptioner
from pipeline.regions.caption_regions import RegionPaths, caption_regions, only_object, visible_objects
from pipeline.regions.regions import REGIONS
from tests.edited_code import edited_code
from tests.params_files import with_changes
from tests.refusals import refusal
from tests.stage_paths import placed
from tests.unit.project import Project, refuse_to_load, restored


def region_paths(project: Project) -> RegionPaths:
    return placed(RegionPaths(), project.folder)


def ask(project: Project, *requests: str, images: int = 1) -> dict[str, Any]:
    """Put these requests to the first images."""
    settings = with_changes(project.params, regions={"images": images, "requests": requests})
    return caption_regions(region_paths(project), settings, project.execution("regions"))


def test_a_bad_request_is_refused_before_loading(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Captioner, "from_checkpoint", refuse_to_load)
    image_id = project.test_images[0].image_id
    refusal(ask, project, "left", "0,0,65,64", match=rf"regions\.requests.* {image_id}: .* 0,0,65,64px ")
    (tmp_path / "captions.jsonl").touch()
    paths = replace(region_paths(project), captions=tmp_path / "captions.jsonl")
    with pytest.raises(PipelineError, match=r"captions\.jsonl has no image in the split test"):
        caption_regions(paths, project.params, project.execution("regions"))


def test_answers_are_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the code that gives them changes."""
    ask(project, "left")
    monkeypatch.setattr(Captioner, "from_checkpoint", refuse_to_load)
    with edited_code("regions/words.py"):
        ask(project, "left")
    with edited_code("model/generation.py"), pytest.raises(AssertionError, match="was loaded"):
        ask(project, "left")


def test_pictures_of_a_batch_are_not_in_memory_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images of a batch were decoded at once: with a request for each image 32 photos."""
    pictures: list[weakref.ref[Image.Image]] = []
    counts = []

    def watched(*args: Any) -> Image.Image:
        counts.append(sum(picture() is not None for picture in pictures))
        picture = open_image(*args)
        pictures.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr("pipeline.regions.caption_regions.open_image", watched)
    assert ask(project, "the upper half", images=5)["requests"] == 5
    assert max(counts) <= 2


def test_a_memory_that_neither_prompt_nor_search_uses_is_not_read(project: Project, tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.safetensors"
    shutil.copyfile(region_paths(project).checkpoint, checkpoint)
    (tmp_path / "memory.h5").write_bytes(b"no memory")
    paths = replace(region_paths(project), checkpoint=checkpoint)
    regions = {"images": 1, "requests": ("0.1,0.1,0.9,0.9",)}
    settings = with_changes(project.params, regions=regions, generate={"consensus": 0.0})
    assert caption_regions(paths, settings, project.execution("unused_memory"))["requests"] == 1


def test_a_changed_image_is_not_captioned(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(project.test_images[0].path)
    monkeypatch.setattr(FeatureCaptioner, "caption", refuse_to_load)
    with restored(path) as listed:
        path.write_bytes(listed + b"\0")
        refusal(ask, project, "the lower half", match=rf"{path.name} has changed")


def test_the_stage_writes_crops_captions_and_truth(project: Project, captioner: Captioner) -> None:
    requests = ("the object in the top-left corner", "the whole image", "What is on the right?", "0,0,1,1px")
    paths = region_paths(project)
    metrics = ask(project, *requests, images=3)
    assert metrics == json.loads(paths.metrics.read_text())
    assert (metrics["images"], metrics["requests"]) == (3, 12)

    listed = {record.image_id: record for record in read_captions(paths.captions)}
    shapes, colors = vocabulary(listed.values())
    rows = [row for _, row in read_jsonl(paths.output / "regions.jsonl")]
    images = [image for image in project.test_images[:3] for _ in requests]
    assert [row["region"] for row in rows[:4]] == ["top-left", "full", "right", "box"]
    for row, image in zip(rows, images, strict=True):
        assert row["image_id"] == image.image_id
        region = replace(REGIONS["full"], name=row["region"], box=tuple(row["box"]))
        left, top, right, bottom = region.box
        with Image.open(paths.output / row["crop"]) as saved:
            assert saved.size == (64 * (right - left), 64 * (bottom - top))
        assert row["caption"] == captioner.caption(image.path, region.box, project.params.generate).text
        item = only_object(listed[image.image_id].objects, region)
        nothing = not visible_objects(listed[image.image_id].objects, region)
        assert ("object" in row) == (item is not None)
        assert ("correct" in row) == ("object" in row or nothing)
        if item is not None:
            assert row["object"] == json.loads(json.dumps(asdict(item)))
        if "correct" in row:
            judgment = judge_caption(row["caption"], item, shapes=shapes, colors=colors, region=region.box)
            assert row["correct"] == judgment
    assert metrics["objects"] == sum("object" in row for row in rows) > 0
    assert metrics["empties"] == sum("correct" in row and "object" not in row for row in rows) > 0
    assert len(list(paths.output.iterdir())) == len(rows) + 1
