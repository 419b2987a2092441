"""The encode stage: images in, features.h5 out."""

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions import ImageList, ImageRecord
from pipeline.encoding.batches import EncodedBatch, Unreadable, encode_batches
from pipeline.encoding.blocks import FeatureBlocks
from pipeline.errors import PipelineError, first_few
from pipeline.features.store import write_store
from pipeline.files.batched import batched
from pipeline.files.json_files import JsonObject, digest, read_json, write_json
from pipeline.hardware.execution import Execution
from pipeline.hardware.progress import bar
from pipeline.params.schema import EncoderParams
from pipeline.pretrained.wheels import is_wheel
from pipeline.result_code import ENCODE, library_versions
from pipeline.vision.encoder import EncoderSpec, ImageEncoder
from pipeline.vision.load import load_encoder

logger = logging.getLogger(__name__)

# Encodes images, of which there are so many, into blocks in a folder; yields what became of each batch.
Engine = Callable[
    [Iterable[ImageRecord], int, Path, ImageEncoder, Execution], Generator[EncodedBatch, None, None]
]
_TOO_MANY = 1000  # with so many unreadable images something else is wrong: a disk that is not there
_FACTS = "facts.json"


@dataclass(frozen=True)
class EncodeSummary:
    """What an encode run did."""

    images: int
    encoded: int
    num_tokens: int
    width: int


def encode_locally(
    images: Iterable[ImageRecord], _count: int, folder: Path, encoder: ImageEncoder, execution: Execution
) -> Generator[EncodedBatch, None, None]:
    """The engine of one machine: encodes images in this process."""
    runtime = execution.runtime
    yield from encode_batches(encoder, batched(images, runtime.encode_batch_size), folder, runtime)


def encode_images(
    images_path: Path,
    output: Path,
    params: EncoderParams,
    execution: Execution,
    engine: Engine = encode_locally,
) -> EncodeSummary:
    """Encode every image of images.jsonl once and write the feature store.

    The scratch folder keeps finished work between runs, in one folder for each encoder, its code and its
    libraries. Which engine encodes changes no byte. Raises PipelineError naming the images that cannot be
    read, after the batches without them.
    """
    images = ImageList(images_path)
    encoder = load_encoder(params, execution.placement.device, execution.runtime.model_cache)
    spec = encoder.spec
    with FeatureBlocks(_blocks_folder(execution.scratch, spec)) as blocks:
        missing = blocks.note_missing(image.sha256 for image in images)
        encoded = 0
        if missing:
            wanted = (image for image in images if blocks.claim(image.sha256))
            encoded = _record(engine(wanted, missing, blocks.folder, encoder, execution), missing, blocks)
        known = "; the others are known by their bytes" if encoded < len(images) else ""
        logger.info("%d of %d images encoded now%s", encoded, len(images), known)
        write_store(output, images, spec.as_dict(), blocks.read(image.sha256 for image in images))
    return EncodeSummary(len(images), encoded, spec.num_tokens, spec.width)


def _record(results: Generator[EncodedBatch, None, None], count: int, blocks: FeatureBlocks) -> int:
    """Add the blocks of all batches to the index; returns how many images they hold.

    Raises PipelineError naming the images that could not be read, in the order of their ids.
    """
    encoded = 0
    unreadable: list[Unreadable] = []
    with closing(results), bar("encode", count) as progress:
        for done in results:
            if done.block is not None:
                encoded += blocks.record(done.block)
            unreadable += done.unreadable
            if len(unreadable) >= _TOO_MANY:
                break
            progress.update(done.count)
    reasons = [one.why for one in sorted(unreadable, key=lambda one: one.image_id)]
    if len(reasons) == 1:
        raise PipelineError(reasons[0])
    if reasons:
        named = first_few(reasons, separator="\n  ")
        raise PipelineError(f"{len(reasons)} images cannot be encoded:\n  {named}")
    return encoded


def encode_facts(spec: EncoderSpec) -> JsonObject:
    """Whatever features follow from, apart from their images: the encoder, its code, its libraries."""
    package = ["efficientnet_lite_pytorch"] if is_wheel(spec.name) else []
    libraries = library_versions("torch", "transformers", "pillow", *package)
    return {"encoder": spec.as_dict(), "code": ENCODE.digests(), "libraries": libraries}


def _blocks_folder(scratch: Path, spec: EncoderSpec) -> Path:
    """The folder of the features that this encoder gives by this code and these versions of libraries."""
    facts = encode_facts(spec)
    folder = scratch / digest(facts)[:16]
    if not folder.exists():
        _tell_other_libraries(scratch, facts)
        write_json(folder / _FACTS, facts)
    return folder


def _tell_other_libraries(scratch: Path, facts: JsonObject) -> None:
    """Log which kept features are not used only because their libraries had other versions."""
    for path in sorted(scratch.glob(f"*/{_FACTS}")):
        try:
            kept = read_json(path)
        except PipelineError:  # the facts are told to people, and no result follows from them
            continue
        if isinstance(kept, dict) and {**kept, "libraries": facts["libraries"]} == facts:
            logger.info(
                "features in %s were made with %s, now there is %s: images are encoded again, versions are "
                "not mixed. Finished outputs stay.",
                path.parent,
                kept["libraries"],
                facts["libraries"],
            )
