"""Two encoders on a Ray cluster of this machine: the store of one process, whatever happens to an encoder.

Run: make test-ray
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.captions import ImageRecord, write_images
from pipeline.cluster.ray_engine import encode_with_ray
from pipeline.encoding.encode import EncodeSummary, encode_images, encode_locally
from pipeline.errors import PipelineError
from pipeline.files.json_files import sha256_of_file
from pipeline.hardware.device import choose_placement
from pipeline.hardware.execution import Execution
from pipeline.params.schema import Params

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it")

BATCH = 4  # images, in tiny_params


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two cores, for two encoders of one thread each."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@dataclass
class Dataset:
    """Pictures on disk, and stores of them in folders named after the engine."""

    folder: Path
    params: Params

    @property
    def pictures(self) -> list[Path]:
        return sorted((self.folder / "images").iterdir())

    def draw(self, count: int, side: int) -> None:
        (self.folder / "images").mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            noise.save(self.folder / "images" / f"{number:03}.png", compress_level=1)
        write_images(
            self.folder / "images.jsonl",
            [ImageRecord(p.name, p.as_posix(), sha256_of_file(p), side, side) for p in self.pictures],
        )

    def encode(self, engine: Literal["local", "ray"]) -> EncodeSummary:
        execution = Execution(choose_placement("cpu"), self.params.runtime, self.folder / engine / "scratch")
        return encode_images(
            self.folder / "images.jsonl",
            self.store(engine),
            self.params.encoder,
            execution,
            encode_with_ray if engine == "ray" else encode_locally,
        )

    def store(self, engine: str) -> Path:
        return self.folder / engine / "features.h5"

    def blocks(self, engine: str) -> dict[str, int]:
        """The finished blocks, each with the number that its file has on disk."""
        found = (self.folder / engine / "scratch").glob("*/*.safetensors")
        return {path.name: path.stat().st_ino for path in found}


@pytest.fixture
def dataset(tmp_path: Path, tiny_params: Params) -> Dataset:
    return Dataset(tmp_path, tiny_params)


@pytest.mark.usefixtures("cluster")
def test_the_bytes_are_those_of_one_process(dataset: Dataset) -> None:
    dataset.draw(42, side=40)
    assert dataset.encode("ray") == dataset.encode("local") == EncodeSummary(42, 42, 16, 32)
    assert dataset.store("ray").read_bytes() == dataset.store("local").read_bytes()
    assert dataset.encode("ray").encoded == 0


@pytest.mark.usefixtures("cluster")
def test_an_engine_continues_what_the_other_began(dataset: Dataset) -> None:
    dataset.draw(22, side=40)
    dataset.encode("local")
    blocks = sorted((dataset.folder / "local" / "scratch").glob("*/*.safetensors"))
    kept = dataset.folder / "ray" / "scratch" / blocks[0].parent.name
    kept.mkdir(parents=True)
    for block in blocks[:3]:
        block.rename(kept / block.name)
    moved = dataset.blocks("ray")
    assert dataset.encode("ray").encoded <= 22 - 2 * BATCH - 2
    assert moved.items() <= dataset.blocks("ray").items()
    assert dataset.store("ray").read_bytes() == dataset.store("local").read_bytes()


@pytest.mark.usefixtures("cluster")
def test_unreadable_images_are_reported_as_by_one_process(dataset: Dataset) -> None:
    dataset.draw(30, side=40)
    dataset.encode("local")
    whole = dataset.store("local").read_bytes()
    gone, changed = dataset.pictures[1], dataset.pictures[17]
    gone.rename(dataset.folder / "gone.png")
    original = changed.read_bytes()
    changed.write_bytes(original + b"more")
    said = []
    for engine in ("ray", "local"):
        if engine == "local":
            (dataset.folder / "local").rename(dataset.folder / "aside")
        with pytest.raises(PipelineError) as error:
            dataset.encode(engine)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert said[0].startswith("2 images cannot be encoded:")

    (dataset.folder / "gone.png").rename(gone)
    changed.write_bytes(original)
    assert dataset.encode("ray").encoded == 2 * BATCH
    assert dataset.store("ray").read_bytes() == whole


def encoders() -> list[psutil.Process]:
    """The actors' processes: Ray names a worker after the class that it runs."""
    workers = psutil.Process().children(recursive=True)
    return [worker for worker in workers if "_Encoder" in " ".join(worker.cmdline())]


@pytest.mark.usefixtures("cluster")
def test_a_killed_encoder_costs_its_block_alone(dataset: Dataset) -> None:
    """Killed when the first blocks are there; the pictures are large, so that many are still to come."""
    dataset.draw(160, side=400)
    at_the_kill: dict[str, int] = {}

    def kill_one() -> None:
        end = time.monotonic() + 300
        while len(dataset.blocks("ray")) < 3 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(encoders()[0].pid, signal.SIGKILL)
        at_the_kill.update(dataset.blocks("ray"))

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = dataset.encode("ray")
    killer.join()
    assert 3 <= len(at_the_kill) < 160 // BATCH - 1
    assert done.encoded == 160
    assert at_the_kill.items() <= dataset.blocks("ray").items()
    dataset.encode("local")
    assert dataset.store("ray").read_bytes() == dataset.store("local").read_bytes()
