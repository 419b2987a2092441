"""vlm doctor on features: their shape before they are encoded, and the disk that they need.

Run: .venv/bin/python -m pytest tests/unit/doctor/test_vlm_doctor_features.py
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.captions import ImageRecord
from pipeline.device import choose_placement
from pipeline.encoder import load_encoder
from pipeline.feature_store import write_store
from pipeline.params import EncoderParams, Params
from vlm.checks import models, project
from vlm.checks.finding import Finding


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


def test_features_are_counted_as_written_only_where_they_are_this_encoders(
    folder: Path, tiny_params: Params
) -> None:
    images = [ImageRecord(f"{n}.png", f"{n}.png", f"{n:064x}", 8, 8) for n in range(3)]
    spec = {**asdict(tiny_params.encoder), "num_tokens": 16, "width": 32}

    def needed(spec: dict[str, Any]) -> float | None:
        features = np.zeros((3, 16, 32), np.float16)
        write_store(folder / "data" / "features.h5", images, spec, features)
        return project._bytes_to_write(folder, tiny_params, images=3)

    here, elsewhere = needed(spec), needed({**spec, "layer": -1})
    assert here is not None
    assert elsewhere == here + 3 * features_of(3)
    # Other files there are no features of this encoder.
    (folder / ".scratch" / "encode").mkdir(parents=True)
    (folder / ".scratch" / "encode" / "other.safetensors").write_bytes(bytes(10**6))
    assert project._bytes_to_write(folder, tiny_params, images=3) == elsewhere


def features_of(images: int) -> int:
    """Bytes, of 16 tokens of 32 float16 each."""
    return images * 16 * 32 * 2


def test_too_little_disk_is_a_problem_that_says_how_much_is_needed(
    folder: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(free: float) -> Finding:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
        return project.check_disk(folder, tiny_params, images=1_000_000)

    # 16 tokens of 32 float16 an image, kept three times.
    assert "about 3.07 GB needed" in check(1e12).text
    assert [check(free).level for free in (1e12, 3.5e9, 2e9)] == ["ok", "warning", "problem"]
    (folder / "data").mkdir()
    (folder / "data" / "features.h5").write_bytes(bytes(1000))
    assert project.check_disk(folder, tiny_params, images=None).text.endswith("is not known yet")
