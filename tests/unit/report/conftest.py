"""A made-up run for the report to show."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.captions import (
    CaptionRecord,
    ImageRecord,
    SceneObject,
    Split,
    write_captions,
    write_images,
)
from pipeline.files.json_files import sha256_of_file, write_json, write_jsonl
from pipeline.report.report import ReportInputs
from tests.report_lab import SAMPLE_PARAMS, SCORES, color_row, score_row


@pytest.fixture
def run(tmp_path: Path) -> ReportInputs:
    """A finished run of two epochs and four test images."""
    images, captions, said = [], [], []
    for index in range(6):
        image_id = f"image_{index}"
        path = tmp_path / f"{image_id}.png"
        Image.new("RGB", (40 + index, 30), (40 * index, 90, 120)).save(path)
        images.append(ImageRecord(image_id, str(path), sha256_of_file(path), 40 + index, 30))
        split: Split = "train" if index == 0 else "dev" if index == 1 else "test"
        texts = (f"a dog number {index} runs", f"the brown dog {index} is running")
        objects = (SceneObject("star", "blue", "small", (0, 0, 1, 1)),)
        captions.append(CaptionRecord(image_id, split, texts, objects if index < 4 else ()))
        if split == "test":
            said.append({"image_id": image_id, "caption": f"a dog runs like {index}, an orange star"})
    write_images(tmp_path / "images.jsonl", images)
    write_captions(tmp_path / "captions.jsonl", captions)
    write_jsonl(tmp_path / "predictions" / "epoch_002_test.jsonl", said)

    Image.new("RGB", (20, 15), "red").save(tmp_path / "crop.png")
    answers: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "request": "Describe the top left",
            "region": "top-left",
            "box": [0, 0, 0.5, 0.5],
            "caption": f"a corner of {image_id}",
            "crop": "crop.png",
        }
        for image_id in ("image_2", "image_3")
    ]
    answers[0]["object"] = {"shape": "star", "color": "blue", "size": "small", "box": [0, 0, 1, 1]}
    answers[0]["correct"] = {"shape": True, "color": False}
    write_jsonl(tmp_path / "regions.jsonl", answers)
    write_json(tmp_path / "regions.json", {"shape_accuracy": 61.5})

    by_epoch = {
        str(epoch): {"dev": score_row(10 + epoch), "test": score_row(9.5 + epoch)} for epoch in (1, 2)
    }
    evaluation = {
        "best_epoch": 2,
        "training": "0f" * 32,
        "selected_by": "bleu_4",
        "images": {"dev": 1, "test": 4},
        "dev": score_row(12),
        "test": {**score_row(11.5), "words": 5.0},
        "intervals": {"test": {score: {"low": 10.25, "high": 12.75} for score in SCORES}},
        "choice": {"next_best_epoch": 1, "lead": 1.5, "low": -2.5, "high": 3.5, "distinguishable": False},
        "controls": {
            "constant": {**score_row(3.25), "behind": {"cider": 8.25, "low": 7.5, "high": 9.25}},
            "unheard_of": {**score_row(4), "novelty": 77.75},
        },
        "constant_caption": "a dog that is always there",
        "colors": {"model": color_row(66.5), "constant": color_row(12.5)},
        "distinct_captions": 43.2,
        "by_epoch": by_epoch,
    }
    write_json(tmp_path / "evaluate.json", evaluation)
    header = ["epoch", "dev_loss", *(f"{split}_{score}" for split in ("dev", "test") for score in SCORES)]
    lines = [",".join(header), *(",".join([str(epoch)] + ["12.5"] * 13) for epoch in (1, 2))]
    (tmp_path / "epochs.csv").write_text("\n".join(lines))
    steps = [f"{step},{1 + step // 500},{9 / step},0.001,1.5" for step in range(1, 1000)]
    header_line = "step,epoch,loss,learning_rate,gradient_norm"
    (tmp_path / "training.csv").write_text("\n".join([header_line, *steps]))
    return ReportInputs(
        params=SAMPLE_PARAMS,
        images=tmp_path / "images.jsonl",
        captions=tmp_path / "captions.jsonl",
        evaluation=tmp_path / "evaluate.json",
        training_curve=tmp_path / "training.csv",
        epoch_curve=tmp_path / "epochs.csv",
        predictions=tmp_path / "predictions",
        regions=tmp_path,
        region_metrics=tmp_path / "regions.json",
    )
