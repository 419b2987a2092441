"""A tiny dataset in the form of `jxie/flickr8k`: parquet files of images and captions, and their pins."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from pipeline.files.json_files import sha256_of_file

NAME = "jxie/flickr8k"
COMMIT = "56f58c967835f7c508d684f36bd7897cca9d7634"
COLUMNS = [f"caption_{n}" for n in range(5)]
# (our split, file, images)
SHARDS = (
    ("train", "data/train-00000-of-00002.parquet", 5),
    ("train", "data/train-00001-of-00002.parquet", 4),
    ("dev", "data/validation-00000-of-00001.parquet", 3),
    ("test", "data/test-00000-of-00001.parquet", 4),
)


def save_flickr8k(folder: Path) -> None:
    """Write the parquet files below `folder`."""
    number = 0
    for _, file, count in SHARDS:
        rows = [_row(number + n) for n in range(count)]
        number += count
        save_parquet(folder / file, rows)


def save_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as the `datasets` library would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), *((name, pyarrow.string()) for name in COLUMNS)])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path, row_group_size=2)


def pins_of(folder: Path) -> dict[str, Any]:
    """What pins the dataset that `save_flickr8k` wrote."""
    shards = [
        {"split": split, "file": file, "sha256": sha256_of_file(folder / file), "rows": rows}
        for split, file, rows in SHARDS
    ]
    return {
        "repository": NAME,
        "revision": COMMIT,
        "image_column": "image",
        "caption_columns": COLUMNS,
        "license": "Made for the tests.",
        "shards": shards,
    }


def write_pins(path: Path, pins: dict[str, Any]) -> Path:
    path.write_text(json.dumps(pins))
    return path


def _row(number: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    color = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
    image = Image.new("RGB", (60, 40), color)
    image.paste((255, 255, 255), (number, number, number + 20, number + 12))
    image.save(buffer, "JPEG")
    captions = {name: f"Caption {k} of a picture with number {number} ." for k, name in enumerate(COLUMNS)}
    return {"image": {"bytes": buffer.getvalue(), "path": None}, **captions}
