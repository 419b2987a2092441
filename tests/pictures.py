"""Pictures of noise on disk, their list, and stores of their features."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.captions import ImageRecord, write_images
from pipeline.encoding.encode import EncodeSummary, Engine, encode_images, encode_locally
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params


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
        noise = np.random.default_rng([seed, number]).integers(0, 256, (self.side, self.side, 3), np.uint8)
        Image.fromarray(noise).save(path, compress_level=1)
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
