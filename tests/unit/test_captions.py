"""The table of captions and images as it is read back: what does not fit is named by its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions import read_captions, read_images
from pipeline.errors import PipelineError

ROW: dict[str, Any] = {
    "image_id": "a.png",
    "split": "train",
    "captions": ["a red star"],
    "objects": [{"shape": "star", "color": "red", "size": "small", "box": [0, 0, 1, 1]}],
}


def changed(box: list[Any]) -> dict[str, Any]:
    return {**ROW, "objects": [{**ROW["objects"][0], "box": box}]}


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "split": "all"},
        {**ROW, "image_id": 3},
        {key: value for key, value in ROW.items() if key != "captions"},
        changed([0, 0, 1]),
        changed([0, 0, 1, "wide"]),
        changed([0, 0, 1, 10**400]),
    ],
)
def test_a_line_that_is_no_caption_record_is_named(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n")
    assert read_captions(path)[0].objects[0].box == (0.0, 0.0, 1.0, 1.0)
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**row})}\n")
    with pytest.raises(PipelineError, match=r"captions\.jsonl:2 is no caption record"):
        read_captions(path)


def test_an_image_of_no_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    row = {"image_id": "a.png", "path": "a.png", "sha256": "0" * 64, "width": 70_000, "height": 4}
    path.write_text(f"{json.dumps(row)}\n")
    with pytest.raises(PipelineError, match=r"images\.jsonl:1 is no image record: width is 70000"):
        read_images(path)
