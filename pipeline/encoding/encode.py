"""The encode stage: images in, features.h5 out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import ImageList, ImageRecord
from pipeline.encoding.batches import TOO_MANY, Unreadable, batches_of, encode_batches, require_readable
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.encoding.kept_features import blocks_folder
from pipeline.features.store import write_store
from pipeline.hardware.device import Placement
from pipeline.hardware.progress import bar
from pipeline.params.schema import EncoderParams, RuntimeParams
from pipeline.vision.encoder import ImageEncoder, load_encoder

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

    `scratch` keeps finished work between runs, in one folder for each encoder and its code. Who encodes
    (`runtime.encode_engine`) changes no byte. Raises PipelineError naming the images that cannot be read,
    after the batches without them.
    """
    images = ImageList(images_path)
    model_cache = Path(runtime.model_cache) if runtime.model_cache else None
    encoder = load_encoder(params, placement.device, model_cache)
    spec = encoder.spec
    with FeatureBlocks(blocks_folder(scratch, spec)) as blocks:
        missing = blocks.note_missing(image.sha256 for image in images)
        wanted = (image for image in images if blocks.claim(image.sha256))
        if runtime.encode_engine == "ray" and missing:
            from pipeline.cluster.ray_engine import encode_with_ray

            encoded = encode_with_ray(wanted, missing, blocks, params, runtime, spec)
        else:
            encoded = encode_here(wanted, missing, blocks, encoder, runtime)
        known = "; the others are known by their bytes" if encoded < len(images) else ""
        logger.info("%d of %d images encoded now%s", encoded, len(images), known)
        write_store(output, images, spec.as_dict(), blocks.read(image.sha256 for image in images))
    return EncodeSummary(len(images), encoded, spec.num_tokens, spec.width)


def encode_here(
    wanted: Iterable[ImageRecord],
    count: int,
    blocks: FeatureBlocks,
    encoder: ImageEncoder,
    runtime: RuntimeParams,
) -> int:
    """Encode the `count` images `wanted` into `blocks` in this process; returns how many those were.

    Raises PipelineError naming the images that cannot be read, after the batches without them.
    """
    encoded = 0
    unreadable: list[Unreadable] = []
    with bar("encode", count) as progress:
        batches = batches_of(wanted, runtime.encode_batch_size)
        for done in encode_batches(encoder, batches, blocks.folder, runtime):
            if done.block is not None:
                encoded += blocks.record(done.block)
            unreadable += done.unreadable
            if len(unreadable) >= TOO_MANY:
                break
            progress.update(len(done.images))
    require_readable(unreadable)
    return encoded
