"""Encode batches of images: reading, encoding and writing at the same time.

B: batch, S: side of the encoder's input in pixels.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.captions import ImageRecord
from pipeline.encoding.block_files import write_block
from pipeline.errors import PipelineError
from pipeline.hardware.memory import free_memory
from pipeline.images.images import open_image
from pipeline.params.schema import RuntimeParams
from pipeline.vision.encoder import ImageEncoder

Batch = list[ImageRecord]
# Ids of images that cannot be read, each with the reason.
Unreadable = tuple[tuple[str, str], ...]
_AHEAD = 2  # batches that are read while the encoder works on one
_BEHIND = 2  # batches that are written meanwhile
# Images that `auto` encodes at a time: on a CPU, and at most; and what one takes of a GPU meanwhile: room
# enough for large encoders (257 patches of width 1024, in float32).
_CPU_IMAGES, _MOST_IMAGES = 32, 256
_BYTES_OF_AN_IMAGE = 32e6
# Lower priority of readers: a reader that took a core from one of the encoder's threads would let the others
# wait for it at the end of each operation.
_NICE = 10


@dataclass(frozen=True)
class EncodedBatch:
    """The result of a batch of `count` images: a block of features, or the images that cannot be read."""

    count: int
    block: Path | None
    unreadable: Unreadable = ()


def encode_batches(
    encoder: ImageEncoder, batches: Iterable[Batch], folder: Path, runtime: RuntimeParams
) -> Iterator[EncodedBatch]:
    """Encode each batch and write its features as a block into `folder`; yield the results in order.

    Threads read ahead and one thread writes (Pillow, NumPy and the file system release the interpreter lock),
    so the encoder waits for neither, and only a few batches are in memory. A batch with an unreadable image
    is not encoded, so that batches are the same once the image is repaired.
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
                # On CUDA this returns at once; the writer waits for the features.
                written.append(writer.submit(_write, folder, batch, _encode(encoder, pixels)))
            while len(written) > _BEHIND:
                yield written.popleft().result()
        while written:
            yield written.popleft().result()


def choose_batch(runtime: RuntimeParams, device: torch.device) -> int:
    """Resolve `runtime.encode_batch_size`; `auto` fills a quarter of a GPU's free memory."""
    if runtime.encode_batch_size != "auto":
        return runtime.encode_batch_size
    if device.type != "cuda":
        return _CPU_IMAGES
    images = free_memory(device) / 4 / _BYTES_OF_AN_IMAGE
    return 1 << int(math.log2(min(max(images, 1), _MOST_IMAGES)))


def _encode(encoder: ImageEncoder, pixels: Tensor) -> Tensor:
    """Encode pixels `[B, 3, S, S]`, in halves where memory does not suffice."""
    try:
        return encoder.encode(pixels)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    return torch.cat([_encode(encoder, half) for half in pixels.chunk(2)])


def _give_way() -> None:
    """Lower this thread's priority; only Linux has priorities of threads."""
    if sys.platform == "linux":
        os.nice(_NICE)


def load_pixels(encoder: ImageEncoder, image: ImageRecord) -> Tensor:
    """The pixels `[3, S, S]` of an image. Raises PipelineError if its bytes have changed."""
    limit = image.width * image.height / 1e6 + 1
    return encoder.preprocess(open_image(Path(image.path), limit, image.sha256))


def _read_ahead(
    encoder: ImageEncoder, batches: Iterable[Batch], readers: ThreadPoolExecutor, pin_memory: bool
) -> Iterator[tuple[Batch, Tensor, Unreadable]]:
    """Yield each batch with its pixels `[B, 3, S, S]` and its unreadable images."""
    side = encoder.spec.image_size

    def start(batch: Batch) -> tuple[Batch, Tensor, list[Future[None]]]:
        pixels = torch.empty(len(batch), 3, side, side, pin_memory=pin_memory)  # [B, 3, S, S]
        # Each thread writes into its row, so that no thread has to join a batch.
        rows = [readers.submit(_read, encoder, image, row) for image, row in zip(batch, pixels, strict=True)]
        return batch, pixels, rows

    remaining = iter(batches)
    reading = deque(map(start, islice(remaining, _AHEAD)))
    while reading:
        batch, pixels, rows = reading.popleft()
        reading.extend(map(start, islice(remaining, 1)))
        unreadable = []
        for image, row in zip(batch, rows, strict=True):
            try:
                row.result()
            except PipelineError as error:
                unreadable.append((image.image_id, str(error)))
        yield batch, pixels, tuple(unreadable)


def _read(encoder: ImageEncoder, image: ImageRecord, row: Tensor) -> None:
    pixels = load_pixels(encoder, image)
    if pixels.shape != row.shape:
        raise ValueError(f"preprocessing gives pixels {tuple(pixels.shape)}, expected {tuple(row.shape)}")
    # NumPy's copy: PyTorch's would start more threads in each of these threads.
    np.copyto(row.numpy(), pixels.numpy())


def _write(folder: Path, batch: Batch, features: Tensor) -> EncodedBatch:
    return EncodedBatch(len(batch), write_block(folder, batch, features.float().cpu().numpy()))
