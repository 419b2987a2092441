"""The regions stage writes crops, captions and what was right in them.

Run: .venv/bin/python -m pytest tests/unit/regions/test_caption_regions.py
"""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from PIL import Image

from pipeline import Captioner
from pipeline.captions import read_captions, vocabulary
from pipeline.errors import PipelineError
from pipeline.files.json_files import read_jsonl
from pipeline.metrics.scene_truth import names_object
from pipeline.params.schema import Params
from pipeline.regions.caption_regions import RegionPaths, caption_regions, only_object
from pipeline.regions.regions import REGIONS
from tests.edited_code import EditCode
from tests.unit.project import Project, refuse_to_load


def asking(project: Project, **changes: Any) -> Params:
    """The project's parameters with other values in the section `regions`."""
    return replace(project.params, regions=replace(project.params.regions, **changes))


def region_paths(project: Project) -> RegionPaths:
    return RegionPaths(
        checkpoint=project.best,
        images=project.data / "images.jsonl",
        captions=project.data / "captions.jsonl",
        output=project.data / "regions",
        metrics=project.folder / "regions.json",
    )


def test_the_regions_stage_refuses_a_box_beyond_an_image_before_it_loads_models(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    settings = asking(project, images=1, requests=("left", "0,0,65,64"))
    image_id = project.test_images[0].image_id
    with pytest.raises(PipelineError, match=rf"regions\.requests.*: {image_id}: the box 0,0,65,64px reaches"):
        caption_regions(region_paths(project), settings, project.execution("regions"))


def test_the_regions_stage_tells_a_pixel_from_the_whole_image(project: Project) -> None:
    def size(request: str) -> tuple[int, int]:
        settings = asking(project, images=1, requests=(request,))
        paths = region_paths(project)
        caption_regions(paths, settings, project.execution("regions"))
        with Image.open(paths.output / "00000.jpg") as saved:
            return saved.size

    assert size("0,0,1,1") == (64, 64)
    assert size("0,0,1,1px") == (1, 1)


def test_other_code_answers_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, edit_code: EditCode
) -> None:
    settings = asking(project, images=1, requests=("left",))
    paths = region_paths(project)
    caption_regions(paths, settings, project.execution("regions"))
    monkeypatch.setattr(Captioner, "load", refuse_to_load)
    caption_regions(paths, settings, project.execution("regions"))
    with edit_code("regions/words.py"):
        caption_regions(paths, settings, project.execution("regions"))
    with (
        edit_code("model/generation.py"),
        pytest.raises(AssertionError, match="the language model was loaded"),
    ):
        caption_regions(paths, settings, project.execution("regions"))


def test_the_regions_stage_writes_crops_captions_and_truth(project: Project, captioner: Captioner) -> None:
    requests = (
        "Describe the object in the top-left corner",
        "Describe the whole image",
        "What is on the right?",
    )
    settings = asking(project, images=3, requests=requests)
    paths = region_paths(project)
    metrics = caption_regions(paths, settings, project.execution("regions"))
    assert metrics == json.loads(paths.metrics.read_text())
    assert (metrics["images"], metrics["requests"]) == (3, 9)

    listed = read_captions(paths.captions)
    shapes, colors = vocabulary(listed)
    shown = {record.image_id: record.objects for record in listed}
    images = {image.image_id: image for image in project.test_images}
    rows = [row for _, row in read_jsonl(paths.output / "regions.jsonl")]
    assert [row["image_id"] for row in rows] == [i for i in list(images)[:3] for _ in requests]
    assert [row["region"] for row in rows[:3]] == ["top-left", "full", "right"]
    for row in rows:
        region = REGIONS[row["region"]]
        with Image.open(paths.output / row["crop"]) as saved:
            assert saved.size == (
                (64 if region.box[2] - region.box[0] == 1 else 32),
                (64 if region.box[3] - region.box[1] == 1 else 32),
            )
        answer = captioner.caption(
            images[row["image_id"]].path, region=region.name, generate=project.params.generate
        )
        assert row["caption"] == answer.text
        item = only_object(shown[row["image_id"]], region)
        assert ("object" in row) == ("correct" in row) == (item is not None)
        if item is not None:
            assert row["object"] == json.loads(json.dumps(asdict(item)))
            shape, color = names_object(answer.text, item.shape, item.color, shapes=shapes, colors=colors)
            assert row["correct"] == {"shape": shape, "color": color}
    assert metrics["objects"] == sum("object" in row for row in rows) > 0
    assert len(list(paths.output.iterdir())) == len(rows) + 1
