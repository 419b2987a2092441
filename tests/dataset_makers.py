"""Small datasets in every format, written to a folder, and how tests read them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pipeline.captions import Split
from pipeline.datasets.read import DatasetItem, read_dataset
from pipeline.params.schema import DataParams, Limits, ScenesParams

Source = Literal["flickr8k", "karpathy", "jsonl", "csv"]


NAMES: dict[str, Split] = {"a.jpg": "train", "b.jpg": "train", "c.jpg": "dev", "d.jpg": "test"}
FLICKR_SPLITS = {split: f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")}


def params_of(source: Source, root: Path, limits: Limits | None = None) -> DataParams:
    return DataParams(
        source=source,
        root=str(root),
        limits=limits or Limits(train=None, dev=None, test=None),
        max_megapixels=1.0,
        scenes=ScenesParams(train=1, dev=1, test=1, image_size=64, seed=0),
    )


def read(source: Source, root: Path) -> list[DatasetItem]:
    return read_dataset(params_of(source, root))


def make_images(folder: Path, names: Iterable[str] = NAMES) -> None:
    """Files that only have to exist: reading a dataset opens no image."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not looked into")


def make_splits(folder: Path) -> None:
    for split, file in FLICKR_SPLITS.items():
        names = [name for name, its_split in NAMES.items() if its_split == split]
        (folder / file).write_text("".join(f"{name}\n" for name in names))


def make_flickr8k(root: Path) -> Path:
    make_images(root / "Flicker8k_Dataset")
    lines = [f"{name}#{k}\tCaption {k} of {name} .\n" for name in NAMES for k in range(2)]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    make_splits(root)
    return root


def make_kaggle(root: Path) -> Path:
    make_images(root / "Images")
    rows = [f'{name},"Caption {k} of {name} ."\n' for name in NAMES for k in range(2)]
    (root / "captions.txt").write_text("image,caption\n" + "".join(rows))
    return root


def karpathy_images() -> list[dict[str, Any]]:
    words = {"train": "train", "dev": "val", "test": "test"}
    return [
        {
            "filename": name,
            "split": words[split],
            "sentences": [{"raw": f"Caption {k} of {name} .", "tokens": []} for k in range(2)],
        }
        for name, split in NAMES.items()
    ]


def make_karpathy(root: Path, images: object = None, name: str = "dataset.json") -> Path:
    make_images(root / "images")
    content = {"dataset": "x", "images": karpathy_images() if images is None else images}
    (root / name).write_text(json.dumps(content))
    return root


def jsonl_rows() -> list[dict[str, Any]]:
    return [
        {"image": name, "split": split, "captions": [f"Caption {k} of {name} ." for k in range(2)]}
        for name, split in NAMES.items()
    ]


def make_jsonl(root: Path, rows: Iterable[object] | None = None) -> Path:
    make_images(root)
    lines = [json.dumps(row) for row in (jsonl_rows() if rows is None else rows)]
    (root / "captions.jsonl").write_text("\n".join(lines))
    return root


def make_csv(root: Path, extra: str = "") -> Path:
    make_images(root)
    rows = [f"{n},Caption {k} of {n} .,{s}\n" for n, s in NAMES.items() for k in range(2)]
    (root / "captions.csv").write_text("image,caption,split\n" + "".join(rows) + extra)
    return root


MAKERS: dict[Source, Callable[[Path], Path]] = {
    "flickr8k": make_flickr8k,
    "karpathy": make_karpathy,
    "jsonl": make_jsonl,
    "csv": make_csv,
}


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def bad_row(tmp_path: Path, **changes: object) -> Path:
    """A jsonl dataset whose second line is changed; None takes a key away."""
    rows = jsonl_rows()
    rows[1] = {key: v for key, v in {**rows[1], **changes}.items() if v is not None}
    return make_jsonl(tmp_path, rows)
