"""vlm doctor on features: their shape before they are encoded, and the disk that they need.

Run: .venv/bin/python -m pytest tests/unit/vlm/test_doctor_features.py
"""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.features.store import write_store
from pipeline.hardware.device import choose_placement
from pipeline.params.schema import EncoderParams, Params
from pipeline.vision.load import load_encoder
from vlm.checks import models
from vlm.checks.disk import check_disk
from vlm.checks.finding import Finding
from vlm.checks.project import DatasetFinding


@pytest.mark.parametrize(
    ("tokens", "grid"),
    [("patches", None), ("patches", 2), ("cls+patches", None), ("cls", None), ("mean", None)],
)
def test_the_shape_of_features_is_known_without_loading_the_encoder(
    tiny_clip: Path, tokens: Any, grid: int | None
) -> None:
    params = EncoderParams(str(tiny_clip), None, -2, tokens, grid)
    spec = load_encoder(params, choose_placement("cpu").device).spec
    assert models.feature_shape(params) == models.FeatureShape(spec.num_tokens, spec.width)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("openai/clip-vit-base-patch32", (49, 768)),
        ("openai/clip-vit-large-patch14-336", (576, 1024)),
        ("wheel:efficientnet-lite0", (49, 1344)),
    ],
)
def test_the_shape_of_known_encoders_needs_no_file(name: str, shape: tuple[int, int]) -> None:
    found = models.feature_shape(EncoderParams(name, None, -2, "patches", None))
    assert found == models.FeatureShape(*shape)


@pytest.mark.parametrize("change", [{"image_size": [64, 64]}, {"patch_size": None}, {"hidden_size": "32"}])
def test_a_vision_configuration_of_another_kind_is_not_guessed_at(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    sizes = {"image_size": 64, "patch_size": 16, "hidden_size": 32, **change}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": sizes}))
    assert models.feature_shape(EncoderParams(str(tmp_path), None, -2, "patches", None)) is None


def needed(folder: Path, params: Params, dataset: DatasetFinding, to_download: int = 0) -> float:
    """GB, as the line on the disk says."""
    (found,) = check_disk(folder, params, dataset, [model(to_download)])
    return float(found.text.split("about ")[1].split(" GB needed")[0])


def model(to_download: int | None) -> models.ModelFinding:
    return models.ModelFinding(Finding("ok", "encoder", "there"), to_download)


def images(count: int | None, to_download: int | None = 0, to_unpack: int = 0) -> DatasetFinding:
    return DatasetFinding(Finding("ok", "dataset", "there"), count, to_download, to_unpack)


def test_features_are_counted_as_written_only_where_they_are_this_encoders(
    folder: Path, tiny_params: Params
) -> None:
    count, tokens, width = 3, 16, 1_000_000
    records = [ImageRecord(f"{n}.png", f"{n}.png", f"{n:064x}", 8, 8) for n in range(count)]
    config = {"vision_config": {"image_size": 32, "patch_size": 8, "hidden_size": width}}
    (folder / "wide").mkdir()
    (folder / "wide" / "config.json").write_text(json.dumps(config))
    params = replace(tiny_params, encoder=replace(tiny_params.encoder, name="wide"))
    spec = {**asdict(params.encoder), "num_tokens": tokens, "width": width}

    def with_store_of(spec: dict[str, Any]) -> float:
        features = np.zeros((count, tokens, width), np.float16)
        write_store(folder / "data" / "features.h5", records, spec, features)
        return needed(folder, params, images(count))

    here, elsewhere = with_store_of(spec), with_store_of({**spec, "layer": -1})
    assert elsewhere - here == pytest.approx(3 * count * tokens * width * 2 / 1e9, abs=0.02)


def test_downloads_and_unpacked_images_are_counted(folder: Path, tiny_params: Params) -> None:
    alone = needed(folder, tiny_params, images(3))
    dataset = images(3, to_download=2_000_000_000, to_unpack=1_000_000_000)
    # Images twice: DVC keeps a copy.
    together = needed(folder, tiny_params, dataset, to_download=3_000_000_000)
    assert together == pytest.approx(alone + 2 + 2 + 3, abs=0.02)
    (folder / "data").mkdir()
    (folder / "data" / "images.jsonl").touch()
    assert needed(folder, tiny_params, dataset) == pytest.approx(alone + 2, abs=0.02)


def test_downloads_of_unknown_size_are_said_to_come_on_top(folder: Path, tiny_params: Params) -> None:
    (found,) = check_disk(folder, tiny_params, images(3), [model(0), model(None)])
    assert found.text.endswith("needed for features and checkpoints; downloads of unknown size come on top")
    (found,) = check_disk(folder, tiny_params, images(3, to_download=None), [])
    assert found.text.endswith("downloads of unknown size come on top, and the images in them, twice")


def test_a_cache_on_another_disk_is_looked_at_by_itself(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    monkeypatch.setattr("vlm.checks.disk.constants.HF_HUB_CACHE", str(other / "not there yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5e9}))
    project, cache = check_disk(folder, tiny_params, images(3, to_download=6_000_000_000), [])
    assert (project.level, cache.level) == ("ok", "problem")
    assert cache.text == "5.0 GB free, about 6.00 GB needed for downloads in /dev/shm"
    assert "HF_HOME" in str(cache.remedy)
    _, cache = check_disk(folder, tiny_params, images(3), [model(None)])
    assert cache.text.endswith("in /dev/shm; downloads of unknown size come on top")


def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(free: float) -> Finding:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
        (found,) = check_disk(folder, tiny_params, images(1_000_000), [])
        return found

    # 16 tokens of 32 float16 an image, kept three times.
    assert "about 3.07 GB needed" in check(1e12).text
    assert [check(free).level for free in (1e12, 3.5e9, 2e9)] == ["ok", "warning", "problem"]
    (unknown,) = check_disk(folder, tiny_params, images(None), [])
    assert unknown.text.endswith("is not known yet")
