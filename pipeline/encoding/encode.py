"""The encode stage: images in, features.h5 out."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import ImageList, ImageRecord
from pipeline.encoding.batches import TOO_MANY, Unreadable, batches_of, encode_batches, require_readable
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.features.store import write_store
from pipeline.files.json_files import digest
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.params.schema import EncoderParams, RuntimeParams
from pipeline.result_code import ENCODE
from pipeline.vision.encoder import EncoderSpec, ImageEncoder
from pipeline.vision.load import load_encoder

logger = logging.getLogger(__name__)

# Encodes the images into the blocks; returns how many those were. Raises PipelineError naming the images that
# cannot be read, after the batches without them.
Engine = Callable[[Iterable[ImageRecord], int, FeatureBlocks, ImageEncoder, RuntimeParams], int]


@dataclass(frozen=True)
class EncodeSummary:
    """What an encode run did."""

    images: int
    encoded: int
    num_tokens: int
    width: int


def encode_locally(
    wanted: Iterable[ImageRecord],
    count: int,
    blocks: FeatureBlocks,
    encoder: ImageEncoder,
    runtime: RuntimeParams,
) -> int:
    """The engine of one machine: encodes the `count` images `wanted` in this process."""
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


def encode_images(
    images_path: Path,
    output: Path,
    params: EncoderParams,
    execution: Execution,
    engine: Engine = encode_locally,
) -> EncodeSummary:
    """Encode every image of images.jsonl once and write the feature store.

    The scratch folder keeps finished work between runs, in one folder for each encoder and its code. Which
    engine encodes changes no byte. Raises PipelineError naming the images that cannot be read, after the
    batches without them.
    """
    images = ImageList(images_path)
    encoder = load_encoder(params, execution.placement.device, execution.runtime.model_cache)
    spec = encoder.spec
    with FeatureBlocks(_blocks_folder(execution.scratch, spec)) as blocks:
        missing = blocks.note_missing(image.sha256 for image in images)
        wanted = (image for image in images if blocks.claim(image.sha256))
        encoded = engine(wanted, missing, blocks, encoder, execution.runtime) if missing else 0
        known = "; the others are known by their bytes" if encoded < len(images) else ""
        logger.info("%d of %d images encoded now%s", encoded, len(images), known)
        write_store(output, images, spec.as_dict(), blocks.read(image.sha256 for image in images))
    return EncodeSummary(len(images), encoded, spec.num_tokens, spec.width)


def _blocks_folder(scratch: Path, spec: EncoderSpec) -> Path:
    """The folder of the features that this encoder gives by this code."""
    return scratch / digest({"encoder": spec.fingerprint, "code": ENCODE.digests()})[:16]
