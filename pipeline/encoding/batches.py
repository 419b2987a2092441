"""Batches of images through the encoder: reading, encoding and writing at the same time.

B: batch, S: side of the encoder's input in pixels.
"""

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.captions import ImageRecord
from pipeline.encoding.block_files import write_block
from pipeline.errors import PipelineError
from pipeline.images.images import open_image
from pipeline.params.schema import RuntimeParams
from pipeline.vision.encoder import ImageEncoder

Batch = list[ImageRecord]
# Batches that are read, and that are written, while the encoder works on one.
_AHEAD = 2
_BEHIND = 2
# Readers have this much less priority than the encoder: where both compute on the same cores, a reader that
# took one from the encoder's threads would leave the others waiting for it at the end of each operation.
_NICE = 10


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read, and why."""

    image_id: str
    why: str


@dataclass(frozen=True)
class EncodedBatch:
    """What became of a batch of `count` images: a block of features, or the images that cannot be read."""

    count: int
    block: Path | None
    unreadable: tuple[Unreadable, ...] = ()


def encode_batches(
    encoder: ImageEncoder, batches: Iterable[Batch], folder: Path, runtime: RuntimeParams
) -> Iterator[EncodedBatch]:
    """Encode each batch and write its features as a block into `folder`; yields in order.

    Threads read ahead and one thread writes (Pillow, NumPy and the file system release the interpreter lock),
    so the encoder waits for neither; a few batches are in memory, however many there are. A batch with an
    unreadable image is not encoded: so batches are the same once the image is mended.
    """
    with (
        ThreadPoolExecutor(max(1, runtime.num_workers), initializer=_give_way) as readers,
        ThreadPoolExecutor(max_workers=1) as writer,
    ):
        written: deque[Future[EncodedBatch]] = deque()
        pin_memory = runtime.pin_memory and runtime.device != "cpu" and torch.cuda.is_available()
        for batch, pixels, unreadable in _read_ahead(encoder, batches, readers, pin_memory):
            if unreadable:
                written.append(writer.submit(EncodedBatch, len(batch), None, unreadable))
            else:
                # On CUDA this returns at once; it is the writer that waits for the features.
                written.append(writer.submit(_write, folder, batch, encoder.encode(pixels)))
            while len(written) > _BEHIND:
                yield written.popleft().result()
        while written:
            yield written.popleft().result()


def _give_way() -> None:
    """Let the encoder's threads go before this one, where a thread can have a priority of its own."""
    if sys.platform == "linux":
        os.nice(_NICE)


def load_pixels(encoder: ImageEncoder, image: ImageRecord) -> Tensor:
    """The pixels `[3, S, S]` of a recorded image; PipelineError when its bytes are not those recorded."""
    limit = image.width * image.height / 1e6 + 1
    return encoder.preprocess(open_image(Path(image.path), limit, image.sha256))


@dataclass
class _Reading:
    batch: Batch
    pixels: Tensor  # [B, 3, S, S]
    rows: list[Future[None]]

    def finish(self) -> tuple[Batch, Tensor, tuple[Unreadable, ...]]:
        unreadable = []
        for image, row in zip(self.batch, self.rows, strict=True):
            try:
                row.result()
            except PipelineError as error:
                unreadable.append(Unreadable(image.image_id, str(error)))
        return self.batch, self.pixels, tuple(unreadable)


def _read_ahead(
    encoder: ImageEncoder, batches: Iterable[Batch], readers: ThreadPoolExecutor, pin_memory: bool
) -> Iterator[tuple[Batch, Tensor, tuple[Unreadable, ...]]]:
    start = partial(_start_reading, encoder, readers, pin_memory)
    remaining = iter(batches)
    reading = deque(map(start, islice(remaining, _AHEAD)))
    while reading:
        first = reading.popleft()
        reading.extend(map(start, islice(remaining, 1)))
        yield first.finish()


def _start_reading(
    encoder: ImageEncoder, readers: ThreadPoolExecutor, pin_memory: bool, batch: Batch
) -> _Reading:
    side = encoder.spec.image_size
    pixels = torch.empty(len(batch), 3, side, side, pin_memory=pin_memory)  # [B, 3, S, S]
    return _Reading(
        batch,
        pixels,
        # Each thread writes into its row, so that no thread has to put a batch together.
        [readers.submit(_read, encoder, image, row) for image, row in zip(batch, pixels, strict=True)],
    )


def _read(encoder: ImageEncoder, image: ImageRecord, row: Tensor) -> None:
    pixels = load_pixels(encoder, image)
    if pixels.shape != row.shape:
        raise ValueError(f"preprocessing gives pixels {tuple(pixels.shape)}, expected {tuple(row.shape)}")
    # NumPy's copy: PyTorch's would start threads of its own, in each of these threads.
    np.copyto(row.numpy(), pixels.numpy())


def _write(folder: Path, batch: Batch, features: Tensor) -> EncodedBatch:
    return EncodedBatch(len(batch), write_block(folder, batch, features.float().cpu().numpy()))
