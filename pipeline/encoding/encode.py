"""The encode stage: images become features.h5."""

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.captions import ImageList, ImageRecord
from pipeline.encoding.batches import EncodedBatch, choose_batch, encode_batches
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError, first_few
from pipeline.features.store import write_store
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, digest
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.params.schema import EncoderParams
from pipeline.pretrained.wheels import is_wheel
from pipeline.result_code import ENCODE, library_versions
from pipeline.vision.encoder import EncoderSpec, ImageEncoder
from pipeline.vision.load import load_encoder

logger = logging.getLogger(__name__)

# Encodes images, given their number, into blocks in a folder; yields the result of each batch.
Engine = Callable[
    [Iterable[ImageRecord], int, Path, ImageEncoder, Execution], Generator[EncodedBatch, None, None]
]
_TOO_MANY = 1000  # unreadable images after which encoding stops: a disk may be missing


@dataclass(frozen=True)
class EncodeSummary:
    """The numbers of an encode run: images of the dataset, images encoded now, the shape of features."""

    images: int
    encoded: int
    num_tokens: int
    width: int


def encode_locally(
    images: Iterable[ImageRecord], _count: int, folder: Path, encoder: ImageEncoder, execution: Execution
) -> Generator[EncodedBatch, None, None]:
    """Encode images in this process: the engine of one machine."""
    runtime = execution.runtime
    size = choose_batch(runtime, execution.placement.device)
    yield from encode_batches(encoder, batched(images, size), folder, runtime)


def encode_images(
    images_path: Path,
    output: Path,
    params: EncoderParams,
    execution: Execution,
    engine: Engine = encode_locally,
) -> EncodeSummary:
    """Encode every image of images.jsonl once and write the feature store.

    The scratch folder keeps finished work between runs, in one folder for each encoder, its code and its
    libraries. Every engine gives the same bytes. Raises PipelineError naming the images that cannot be read,
    after the other batches are encoded.
    """
    images = ImageList(images_path)
    encoder = load_encoder(params, execution.placement.device, execution.runtime.model_cache)
    spec = encoder.spec
    with FeatureBlocks(execution.scratch / digest(encoding_provenance(spec))[:16]) as blocks:
        missing = blocks.note_missing(image.sha256 for image in images)
        encoded = 0
        if missing:
            wanted = (image for image in images if blocks.claim(image.sha256))
            encoded = _record(engine(wanted, missing, blocks.folder, encoder, execution), missing, blocks)
        known = "; the others were encoded before" if encoded < len(images) else ""
        logger.info("%d of %d images encoded now%s", encoded, len(images), known)
        write_store(output, images, asdict(spec), blocks.read(image.sha256 for image in images))
    return EncodeSummary(len(images), encoded, spec.num_tokens, spec.width)


def _record(results: Generator[EncodedBatch, None, None], count: int, blocks: FeatureBlocks) -> int:
    """Add the blocks of all batches to the index; return the number of their images.

    Raises PipelineError naming the images that could not be read, in the order of their ids.
    """
    encoded = 0
    unreadable: list[tuple[str, str]] = []
    with closing(results), bar("encode", "images", count) as progress:
        for result in results:
            if result.block is not None:
                encoded += blocks.record(result.block)
            unreadable += result.unreadable
            if len(unreadable) >= _TOO_MANY:
                break
            progress.update(result.count)
    reasons = [reason for _, reason in sorted(unreadable)]
    if len(reasons) == 1:
        raise PipelineError(reasons[0])
    if reasons:
        named = first_few(reasons, separator="\n  ")
        raise PipelineError(f"{len(reasons)} images cannot be encoded:\n  {named}")
    return encoded


def encoding_provenance(spec: EncoderSpec) -> JsonObject:
    """Everything that features follow from, apart from their images: the encoder, its code, its libraries."""
    package = ["efficientnet_lite_pytorch"] if is_wheel(spec.name) else []
    libraries = library_versions("torch", "transformers", "pillow", *package)
    return {"encoder": asdict(spec), "code": ENCODE.digests(), "libraries": libraries}
