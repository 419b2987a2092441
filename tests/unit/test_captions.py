"""The table of captions and images as it is read back: what does not fit is named by its line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions import ImageList, ImageRecord, read_captions, read_images, write_images
from tests.refusals import refusal

IMAGE = {"image_id": "A.png", "path": "a.png", "sha256": "0" * 64, "width": 4, "height": 4}
ITEM = {"shape": "star", "color": "red", "size": "small", "box": [0, 0, 1, 1]}
ROW = {"image_id": "A.png", "split": "train", "captions": ["a red star"], "objects": [ITEM]}


def in_box(*box: object) -> dict[str, Any]:
    return {"objects": [{**ITEM, "box": box}]}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"split": "all"}, "split is 'all'"),
        ({"image_id": 3}, "image_id is 3"),
        ({"captions": []}, "the line is"),
        (in_box(0, 0, 1), "objects.0.box.3"),
        (in_box(0, 0, 1, "wide"), "objects.0.box.3 is 'wide'"),
        (in_box(0, 0, 1, 10**400), "objects.0.box.3"),
    ],
)
def test_a_line_that_is_no_caption_record_is_named(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n")
    assert read_captions(path)[0].objects[0].box == (0.0, 0.0, 1.0, 1.0)
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps({**ROW, 'image_id': 'b.png', **changes})}\n")
    refusal(
        read_captions,
        path,
        match=rf"captions\.jsonl:2 .*{re.escape(key)}.* Fix: pass the .* if this is it, run",
    )


# HDF5 drops a NUL at the end: the image would have another name in the store than in the list.
@pytest.mark.parametrize(
    ("key", "value"),
    [*(("image_id", i) for i in ("a.png\0", "a\n.png", "\x1b[31m.png", "a\x7f", "a\n")), ("width", 70_000)],
)
def test_a_line_that_is_not_an_image_record_is_named(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text(f"{json.dumps(IMAGE)}\n{json.dumps({**IMAGE, 'image_id': 'b', key: value})}\n")
    refusal(read_images, path, match=rf"images\.jsonl:2 .*{re.escape(f'{key} is {value!r}')}")


@pytest.mark.parametrize("image_id", ["A.png", "A"])
def test_images_out_of_order_are_named(tmp_path: Path, image_id: str) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text(f"{json.dumps(IMAGE)}\n{json.dumps({**IMAGE, 'image_id': image_id})}\n")
    refusal(read_images, path, match=f"'A.png' comes before '{image_id}'")


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
    refusal(list, listed, match=r"images\.jsonl was changed while this command read it")
