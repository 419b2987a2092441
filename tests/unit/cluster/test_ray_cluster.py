"""Two encoders on a Ray cluster of this machine: the store of one process, whatever happens to an encoder.

Run: make test-ray
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.cluster.ray_engine import encode_with_ray
from pipeline.encoding.encode import EncodeSummary
from pipeline.params.schema import Params
from tests.pictures import Pictures
from tests.refusals import refusal

ray = pytest.importorskip("ray", reason="Ray is not installed: `make test-ray` installs it")

BATCH = 4  # images, in tiny_params


@pytest.fixture(scope="module", autouse=True)
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


def encode(pictures: Pictures) -> EncodeSummary:
    return pictures.encode("ray", encode_with_ray)


def blocks(pictures: Pictures) -> dict[str, int]:
    """The blocks that the cluster finished, each with the number that its file has on disk."""
    return {path.name: path.stat().st_ino for path in pictures.scratch("ray").glob("*/*.safetensors")}


def assert_equal_stores(pictures: Pictures) -> None:
    pictures.encode()
    assert pictures.store("ray").read_bytes() == pictures.store().read_bytes()


def test_the_bytes_are_those_of_one_process(tmp_path: Path, tiny_params: Params) -> None:
    pictures = Pictures(tmp_path, tiny_params, 42)
    assert encode(pictures) == EncodeSummary(42, 42, 16, 32)
    assert_equal_stores(pictures)
    assert encode(pictures).encoded == 0


def test_an_engine_continues_what_the_other_began(tmp_path: Path, tiny_params: Params) -> None:
    pictures = Pictures(tmp_path, tiny_params, 22)
    pictures.encode()
    finished = sorted(pictures.scratch().glob("*/*.safetensors"))
    folder = pictures.scratch("ray") / finished[0].parent.name
    folder.mkdir(parents=True)
    for block in finished[:3]:
        block.rename(folder / block.name)
    moved = blocks(pictures)
    assert encode(pictures).encoded <= 22 - 2 * BATCH - 2
    assert moved.items() <= blocks(pictures).items()
    assert_equal_stores(pictures)


def test_unreadable_images_are_reported_as_by_one_process(tmp_path: Path, tiny_params: Params) -> None:
    pictures = Pictures(tmp_path, tiny_params, 30)
    (pictures.images / "001.png").unlink()
    with (pictures.images / "017.png").open("ab") as file:
        file.write(b"more")
    sentence = refusal(encode, pictures)
    assert sentence == refusal(pictures.encode)
    assert sentence.startswith("2 images cannot be encoded:")
    for number in (1, 17):
        pictures.draw(number)
    assert encode(pictures).encoded == 2 * BATCH
    assert_equal_stores(pictures)


def encoders() -> list[psutil.Process]:
    """The actors' processes: Ray names a worker after the class that it runs."""
    workers = psutil.Process().children(recursive=True)
    return [worker for worker in workers if "_Encoder" in " ".join(worker.cmdline())]


def test_a_killed_encoder_costs_its_block_alone(tmp_path: Path, tiny_params: Params) -> None:
    """It is killed when the first blocks exist; the pictures are large, so that many are still to come."""
    pictures = Pictures(tmp_path, tiny_params, 160, side=400)
    at_the_kill: dict[str, int] = {}

    def kill_an_encoder() -> None:
        end = time.monotonic() + 300
        while len(blocks(pictures)) < 3 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(encoders()[0].pid, signal.SIGKILL)
        at_the_kill.update(blocks(pictures))

    killer = threading.Thread(target=kill_an_encoder)
    killer.start()
    summary = encode(pictures)
    killer.join()
    assert 3 <= len(at_the_kill) < 160 // BATCH - 1
    assert summary.encoded == 160
    assert at_the_kill.items() <= blocks(pictures).items()
    assert_equal_stores(pictures)
