"""A changed dataset is noticed by the next `dvc repro`, and costs only what changed."""

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pipeline.params.schema import Params
from tests.e2e.conftest import make_project
from tests.e2e.test_bad_input import write_dataset
from tests.e2e.test_dvc import stages_run


def append_row(root: Path, name: str, captions: list[str]) -> None:
    with (root / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"image": name, "captions": captions, "split": "train"}) + "\n")


def test_changes_of_images_and_captions_re_run_only_what_rests_on_them(
    tmp_path: Path, tiny_params: Params
) -> None:
    root = tmp_path / "photos"
    write_dataset(root)
    data = replace(tiny_params.data, source="jsonl", root=str(root))
    project = make_project(tmp_path / "project", replace(tiny_params, data=data))

    def repro() -> str:
        return project.run("dvc", "repro", "encode", "tokenize")

    assert stages_run(repro()) == {"prepare", "encode", "tokenize"}
    assert stages_run(repro()) == set()

    # A mended caption: images are listed anew, none is encoded.
    text = (root / "captions.jsonl").read_text().replace("A plain picture.", "A plain image.", 1)
    (root / "captions.jsonl").write_text(text)
    assert stages_run(repro()) == {"prepare", "tokenize"}

    # A changed image: it alone is encoded.
    Image.new("RGB", (40, 30), (1, 2, 3)).save(root / "1.png")
    printed = repro()
    assert stages_run(printed) == {"prepare", "encode"}
    assert "1 of 6 images encoded now" in printed

    # An added image with its captions.
    Image.new("RGB", (40, 30), (9, 9, 9)).save(root / "new.png")
    append_row(root, "new.png", ["Something new."])
    printed = repro()
    assert stages_run(printed) == {"prepare", "encode", "tokenize"}
    assert "1 of 7 images encoded now" in printed
