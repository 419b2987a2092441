"""Pictures of noise on disk, their list, and stores of their features."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.captions import ImageRecord, write_images
from pipeline.encoding.encode import EncodeSummary, Engine, encode_images, encode_locally
from pipeline.features.store import Features, FeatureStore
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@dataclass
class Pictures:
    """Pictures in `images/`; `encode` writes features.h5 into a folder `name`, which has a scratch folder."""

    folder: Path
    params: Params
    count: int
    side: int = 40

    def __post_init__(self) -> None:
        self.images = self.folder / "images"
        self.listing = self.folder / "images.jsonl"
        self.images.mkdir()
        for number in range(self.count):
            self.draw(number)
        self.list_images()

    def draw(self, number: int, seed: int = 0) -> Path:
        path = self.images / f"{number:03}.png"
        noise(self.side, self.side, seed * self.count + number).save(path, compress_level=1)
        return path

    def list_images(self) -> None:
        """Write the list of the pictures as they are now."""
        paths = sorted(self.images.iterdir())
        side = self.side
        write_images(
            self.listing, [ImageRecord(p.name, p.as_posix(), sha256_of_file(p), side, side) for p in paths]
        )

    def encode(self, name: str = "local", engine: Engine = encode_locally, **encoder: Any) -> EncodeSummary:
        """Encode with an engine and changed `encoder` parameters."""
        execution = Execution(choose_placement("cpu"), self.params.runtime, self.scratch(name))
        params = replace(self.params.encoder, **encoder)
        return encode_images(self.listing, self.store(name), params, execution, engine)

    def scratch(self, name: str = "local") -> Path:
        return self.folder / name / "scratch"

    def store(self, name: str = "local") -> Path:
        return self.folder / name / "features.h5"

    def features(self, name: str = "local") -> Features:
        """Read all features of a store."""
        with FeatureStore(self.store(name)) as store:
            return store.read(list(store.image_ids))
