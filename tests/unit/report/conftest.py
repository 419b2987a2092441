"""A made-up run for the report to show."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.captions import CaptionRecord, ImageRecord, Split, write_captions, write_images
from pipeline.files.json_files import sha256_of_file, write_json, write_jsonl
from pipeline.metrics.scores import SCORES
from pipeline.report.report import ReportInputs
from tests.import_closure import ROOT
from tests.stage_paths import placed

SPLITS: tuple[Split, ...] = ("train", "dev", "test", "test", "test", "test")


@pytest.fixture
def run(tmp_path: Path) -> ReportInputs:
    return make_run(tmp_path)


def make_run(folder: Path, splits: Sequence[Split] = SPLITS) -> ReportInputs:
    """A finished run of two epochs, by default with four test images."""
    inputs = replace(placed(ReportInputs(), folder), params=ROOT / "profiles" / "sample.yaml")
    images, captions, predictions = [], [], []
    for index, split in enumerate(splits):
        image_id = f"image_{index}"
        path = folder / f"{image_id}.png"
        Image.new("RGB", (40 + index, 30), (40 * index, 90, 120)).save(path)
        images.append(ImageRecord(image_id, str(path), sha256_of_file(path), 40 + index, 30))
        texts = (f"a dog number {index} runs", f"the brown dog {index} is running")
        captions.append(CaptionRecord(image_id, split, texts))
        if split == "test":
            predictions.append({"image_id": image_id, "caption": f"a dog runs like {index}, an orange star"})
    write_images(inputs.images, images)
    write_captions(inputs.captions, captions)
    write_jsonl(inputs.predictions / "epoch_002_test.jsonl", predictions)
    _write_answers(inputs)
    write_json(inputs.evaluation, _evaluation())
    columns = ["epoch", "dev_loss", *(f"{split}_{score}" for split in ("dev", "test") for score in SCORES)]
    epochs = [",".join(columns), *(",".join([str(epoch)] + ["12.5"] * 13) for epoch in (1, 2))]
    inputs.epoch_curve.parent.mkdir()
    inputs.epoch_curve.write_text("\n".join(epochs))
    steps = [f"{step},{1 + step // 500},{9 / step},0.001,1.5" for step in range(1, 1000)]
    header = "step,epoch,loss,learning_rate,gradient_norm"
    inputs.training_curve.write_text("\n".join([header, *steps]))
    return inputs


def _write_answers(inputs: ReportInputs) -> None:
    inputs.regions.mkdir()
    Image.new("RGB", (20, 15), "red").save(inputs.regions / "crop.png")
    request = {"request": "Describe the top left", "region": "top-left", "box": [0, 0, 0.5, 0.5]}
    truth = {
        "object": {"shape": "star", "color": "blue", "size": "small", "box": [0, 0, 1, 1]},
        "correct": {"shape": True, "color": False, "place": False},
    }
    answers = [
        {**request, "crop": "crop.png", "image_id": i, "caption": f"a corner of {i}"}
        for i in ("image_2", "image_3")
    ]
    write_jsonl(inputs.regions / "regions.jsonl", [answers[0] | truth, answers[1]])
    write_json(inputs.region_metrics, {"requests": 120, "objects": 50, "shape_accuracy": 61.5})


def _evaluation() -> dict[str, Any]:
    def scores(value: float) -> dict[str, float]:
        return dict.fromkeys(SCORES, value)

    colors = {"recall": 40.5, "said": 3, "named": 4}
    return {
        "best_epoch": 2,
        "training": "0f" * 32,
        "selected_by": "bleu_4",
        "images": {"dev": 1, "test": 4},
        "dev": scores(12),
        "test": {**scores(11.5), "words": 5.0},
        "intervals": {"test": {score: {"low": 10.25, "high": 12.75} for score in SCORES}},
        "choice": {
            **{"decided_by": "dev_loss", "candidates": [1, 2], "highest_epoch": 2, "next_best_epoch": 1},
            **{"lead": 1.5, "low": -2.5, "high": 3.5},
        },
        "controls": {
            "constant": {**scores(3.25), "behind": {"cider": 8.25, "low": 7.5, "high": 9.25}},
            "unheard_of": {**scores(4), "novelty": 77.75},
        },
        "constant_caption": "a dog that is always there",
        "colors": {"model": {"precision": 66.5, **colors}, "constant": {"precision": None, **colors}},
        "distinct_captions": 43.2,
        "by_epoch": {str(n): {"dev": scores(10 + n), "test": scores(9.5 + n)} for n in (1, 2)},
    }
