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
# Readers go behind the encoder by so much: where both compute on the same cores, a reader that took one from
# the encoder's threads would leave the others waiting for it at the end of each operation.
_NICE = 10
_NAMED = 5  # so many unreadable images are named; the rest is counted
TOO_MANY = 1000  # so many of them, and something else is wrong: a disk that is not there


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read, and why."""

    image_id: str
    why: str


@dataclass(frozen=True)
class EncodedBatch:
    """What became of a batch: a block of features, or the images for which there is none."""

    images: Batch
    block: Path | None
    unreadable: tuple[Unreadable, ...] = ()


def require_readable(unreadable: Iterable[Unreadable]) -> None:
    """PipelineError that names the images which could not be read, in image id order, if there are any."""
    found = sorted(unreadable, key=lambda one: one.image_id)
    if len(found) == 1:
        raise PipelineError(found[0].why)
    if found:
        named = "".join(f"\n  {one.why}" for one in found[:_NAMED])
        more = f"\n  and {len(found) - _NAMED} more." if len(found) > _NAMED else ""
        raise PipelineError(f"{len(found)} images cannot be encoded:{named}{more}")


def batches_of(images: Iterable[ImageRecord], size: int) -> Iterator[Batch]:
    """Cut `images` into batches of `size`; the last may be smaller."""
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield batch


def encode_batches(
    encoder: ImageEncoder, batches: Iterable[Batch], folder: Path, runtime: RuntimeParams
) -> Iterator[EncodedBatch]:
    """Encode each batch and write its features as a block into `folder`; yields in order.

    Threads read ahead and one writes behind (Pillow, NumPy and the file system release the interpreter
    lock), so the encoder waits for neither; memory holds a few batches, however many there are. Of a batch
    with an unreadable image nothing is encoded: batches are then the same when the image is mended.
    """
    with (
        ThreadPoolExecutor(max(1, runtime.num_workers), initializer=_give_way) as readers,
        ThreadPoolExecutor(max_workers=1) as writer,
    ):
        writing: deque[Future[EncodedBatch]] = deque()
        pin_memory = runtime.pin_memory and runtime.device != "cpu" and torch.cuda.is_available()
        for batch, pixels, unreadable in _read_ahead(encoder, batches, readers, pin_memory):
            if unreadable:
                writing.append(writer.submit(EncodedBatch, batch, None, unreadable))
            else:
                # On CUDA this returns at once; it is the writer that waits for the features.
                writing.append(writer.submit(_write, folder, batch, encoder.encode(pixels)))
            while len(writing) > _BEHIND:
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


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
        # Each thread puts its image in place, so that nobody has to put a batch together.
        [readers.submit(_read, encoder, image, row) for image, row in zip(batch, pixels, strict=True)],
    )


def _read(encoder: ImageEncoder, image: ImageRecord, row: Tensor) -> None:
    pixels = load_pixels(encoder, image)
    if pixels.shape != row.shape:
        raise ValueError(f"preprocessing gives pixels {tuple(pixels.shape)}, expected {tuple(row.shape)}")
    # NumPy's copy: PyTorch's would start threads of its own, in each of these threads.
    np.copyto(row.numpy(), pixels.numpy())


def _write(folder: Path, batch: Batch, features: Tensor) -> EncodedBatch:
    return EncodedBatch(batch, write_block(folder, batch, features.float().cpu().numpy()))
