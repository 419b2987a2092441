"""The encode stage: images in, features.h5 out, decoding beside the encoder's work."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.captions import ImageRecord, read_images
from pipeline.device import Placement
from pipeline.encoder import ImageEncoder, load_encoder
from pipeline.errors import PipelineError
from pipeline.feature_store import FeatureBlocks, encode_missing, write_store
from pipeline.images import open_image
from pipeline.params import EncoderParams, RuntimeParams
from pipeline.progress import bar
from pipeline.records import sha256_of_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodeSummary:
    """What an encode run did."""

    images: int
    encoded: int
    num_tokens: int
    width: int


def encode_images(
    images_path: Path,
    output: Path,
    scratch: Path,
    params: EncoderParams,
    runtime: RuntimeParams,
    placement: Placement,
) -> EncodeSummary:
    """Encode every image of images.jsonl once and write the feature store.

    `scratch` keeps finished work between runs, in one folder for each encoder.
    """
    images = read_images(images_path)
    model_cache = Path(runtime.model_cache) if runtime.model_cache else None
    encoder = load_encoder(params, placement.device, model_cache)
    blocks = FeatureBlocks(scratch / encoder.spec.fingerprint[:16])
    encoded = encode_missing(blocks, images, partial(_encode, encoder, runtime))
    logger.info("%d images encoded now, %d kept from before", encoded, len(images) - encoded)
    spec = encoder.spec
    write_store(output, images, spec.as_dict(), blocks.read([i.sha256 for i in images]))
    return EncodeSummary(len(images), encoded, spec.num_tokens, spec.width)


def load_pixels(encoder: ImageEncoder, image: ImageRecord) -> Tensor:
    """The pixels `[3, S, S]` of a recorded image; PipelineError when its bytes are not those recorded."""
    path = Path(image.path)
    picture = open_image(path, max_megapixels=image.width * image.height / 1e6 + 1)
    if sha256_of_file(path) != image.sha256:
        raise PipelineError(f"{path} has changed since it was listed; run `dvc repro` again.")
    return encoder.preprocess(picture)


def _encode(
    encoder: ImageEncoder, runtime: RuntimeParams, images: Sequence[ImageRecord]
) -> Iterator[tuple[list[ImageRecord], NDArray[np.float32]]]:
    """Yield batches of images with their features `[n, P, D_v]`.

    Threads decode ahead while the encoder works (Pillow releases the interpreter lock for decoding and
    resizing), two batches at most, so memory does not grow with the dataset.
    """
    size = runtime.encode_batch_size
    batches = [list(images[start : start + size]) for start in range(0, len(images), size)]
    with (
        ThreadPoolExecutor(max(1, runtime.num_workers)) as threads,
        bar("encode", len(images)) as progress,
    ):
        ahead: deque[list[Future[Tensor]]] = deque()
        for index, batch in enumerate(batches):
            for upcoming in batches[index + len(ahead) : index + 2]:
                ahead.append([threads.submit(load_pixels, encoder, image) for image in upcoming])
            pixels = torch.stack([future.result() for future in ahead.popleft()])  # [B, 3, S, S]
            yield batch, encoder.encode(pixels).float().cpu().numpy()
            progress.update(len(batch))
