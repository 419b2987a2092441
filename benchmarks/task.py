"""The images and captions that both sides of a comparison train on."""

from pathlib import Path

from pipeline.captions import of_split, read_captions, read_images
from pipeline.params import DataParams, Limits, ScenesParams
from pipeline.prepare import prepare


def save_captions(photos: Path | None, images: int, folder: Path) -> None:
    """Write images.jsonl and captions.jsonl of the first `images` training images into `folder`."""
    params = DataParams(
        source="flickr8k" if photos else "scenes",
        root=str(photos or "scenes"),
        limits=Limits(train=images, dev=1, test=1),
        max_megapixels=50,
        scenes=ScenesParams(train=images, dev=1, test=1, image_size=224, seed=0),
    )
    prepare(
        params,
        folder / "images.jsonl",
        folder / "captions.jsonl",
        folder / "dataset.md",
        folder / "images",
        workers=2,
    )


def training_pairs(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Path and captions of each training image."""
    paths = {image.image_id: Path(image.path) for image in read_images(folder / "images.jsonl")}
    return [
        (paths[r.image_id], r.captions) for r in of_split(read_captions(folder / "captions.jsonl"), "train")
    ]
