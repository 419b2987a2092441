"""Small datasets in every layout, written to a folder, and how tests read them.

Each has two training images, one of dev and one of test, with two captions each. The images only have to
exist: reading a dataset opens none.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.captions import Split
from pipeline.datasets.read import Entries, read_dataset
from pipeline.params.schema import DataParams, Limits, ScenesParams

NAMES: dict[str, Split] = {"a.jpg": "train", "b.jpg": "train", "c.jpg": "dev", "d.jpg": "test"}
CAPTIONS = {name: [f"Caption {k} of {name} ." for k in range(2)] for name in NAMES}
FLICKR_SPLITS = {split: f"Flickr_8k.{split}Images.txt" for split in ("train", "dev", "test")}
ALL = Limits(None, None, None)


def data_params(source: str, root: Path, limits: Limits = ALL, seed: int = 0) -> DataParams:
    """Parameters of a dataset in `root`; where pins are read, they are in `pins.json`."""
    scenes = ScenesParams(train=3, dev=1, test=2, image_size=64, seed=seed)
    return DataParams(source, str(root), limits, 0.5, scenes, "pins.json")  # type: ignore[arg-type]  # any source


def read(layout: str, root: Path, limits: Limits = ALL) -> Entries:
    """The dataset that the maker of this layout wrote."""
    return read_dataset(data_params("flickr8k" if layout == "kaggle" else layout, root, limits))


def splits_of(entries: Entries) -> dict[str, Split]:
    return {record.image_id: record.split for record, _ in entries}


def make_images(folder: Path, names: Iterable[str] = NAMES) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not looked into")


def make_splits(folder: Path) -> None:
    for split, file in FLICKR_SPLITS.items():
        (folder / file).write_text("".join(f"{n}\n" for n, its_split in NAMES.items() if its_split == split))


def make_flickr8k(root: Path) -> Path:
    make_images(root / "Flicker8k_Dataset")
    lines = [f"{name}#{k}\t{text}\n" for name, texts in CAPTIONS.items() for k, text in enumerate(texts)]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    make_splits(root)
    return root


def make_kaggle(root: Path) -> Path:
    make_images(root / "Images")
    rows = [f'{name},"{text}"\n' for name, texts in CAPTIONS.items() for text in texts]
    (root / "captions.txt").write_text("image,caption\n" + "".join(rows))
    return root


def karpathy_images() -> list[dict[str, Any]]:
    words = {"train": "train", "dev": "val", "test": "test"}
    return [
        {"filename": n, "split": words[split], "sentences": [{"raw": text} for text in CAPTIONS[n]]}
        for n, split in NAMES.items()
    ]


def make_karpathy(root: Path, name: str = "dataset.json") -> Path:
    make_images(root / "images")
    (root / name).write_text(json.dumps({"dataset": "x", "images": karpathy_images()}))
    return root


def make_jsonl(root: Path) -> Path:
    make_images(root)
    rows = [{"image": n, "split": split, "captions": CAPTIONS[n]} for n, split in NAMES.items()]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation in LLaVA's JSON."""
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def make_csv(root: Path) -> Path:
    make_images(root)
    rows = [f"{name},{text},{split}\n" for name, split in NAMES.items() for text in CAPTIONS[name]]
    (root / "captions.csv").write_text("image,caption,split\n" + "".join(rows))
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "flickr8k": make_flickr8k,
    "karpathy": make_karpathy,
    "jsonl": make_jsonl,
    "csv": make_csv,
}


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
