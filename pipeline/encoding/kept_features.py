"""What kept features follow from beside an image's bytes: the encoder, and the code that computes with it."""

from pathlib import Path

from pipeline.encoding import batches, block_files
from pipeline.files.code_digest import code_digest
from pipeline.files.json_files import digest
from pipeline.images import images
from pipeline.vision import efficientnet, encoder, image_processor
from pipeline.vision.encoder import EncoderSpec

# From an open file to a row in float16, and how images are cut into batches, which decides on rounding.
_SHAPING = (images, image_processor, encoder, efficientnet, batches, block_files)


def blocks_folder(scratch: Path, spec: EncoderSpec) -> Path:
    """The folder in `scratch` of the features that this encoder gives by this code."""
    facts = {"encoder": spec.fingerprint, "code": code_digest(*_SHAPING)}
    return scratch / digest(facts)[:16]
