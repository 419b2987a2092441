"""The table of captions and images as it is read back: what does not fit is named by its line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions import ImageList, ImageRecord, read_captions, read_images, write_images
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


@pytest.mark.parametrize("image_id", ["a.png\0", "a\n.png", "\x1b[31m.png", "a\x7f"])
def test_an_id_with_a_control_character_is_named_by_its_line(tmp_path: Path, image_id: str) -> None:
    """HDF5 drops a NUL at the end: the image would have another name in the store than in the list."""
    images, captions = tmp_path / "images.jsonl", tmp_path / "captions.jsonl"
    row = {"image_id": "A.png", "path": "a.png", "sha256": "0" * 64, "width": 4, "height": 4}
    images.write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'image_id': image_id})}\n")
    with pytest.raises(PipelineError, match=r"images\.jsonl:2 is no image record: .* holds a control char"):
        read_images(images)
    captions.write_text(json.dumps({**ROW, "image_id": image_id}))
    with pytest.raises(PipelineError, match=r"captions\.jsonl:1 is no caption record: .* holds a control"):
        read_captions(captions)


def test_an_image_of_no_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    row = {"image_id": "a.png", "path": "a.png", "sha256": "0" * 64, "width": 70_000, "height": 4}
    path.write_text(f"{json.dumps(row)}\n")
    with pytest.raises(PipelineError, match=r"images\.jsonl:1 is no image record: width is 70000"):
        read_images(path)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_list_of_images_that_changed_between_two_passes_is_refused(tmp_path: Path, in_place: bool) -> None:
    """A store is written column by column: ids of one list and digests of another would lie."""
    path, other = tmp_path / "images.jsonl", tmp_path / "other.jsonl"
    images = [ImageRecord(f"{n}.png", f"{n}.png", f"{n:064x}", 4, 4) for n in range(3)]
    write_images(path, images)
    write_images(other, [images[0], replace(images[1], sha256="f" * 64), images[2]])
    listed = ImageList(path)
    assert len(listed) == 3
    assert list(listed) == list(listed) == images
    if in_place:
        path.write_bytes(other.read_bytes())
    else:
        other.replace(path)
    with pytest.raises(PipelineError, match=r"images\.jsonl was changed while this command read it; run the"):
        list(listed)
