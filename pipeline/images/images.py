"""Read image files and arrays as upright 8-bit RGB images, and crop them.

All code that reads pixels uses this module, so that encoding a dataset and captioning a single photo see the
same image. Gray, palette, CMYK, 16-bit and transparent images and those of a camera held sideways become RGB,
upright and fully decoded. A file that cannot be read is a PipelineError that names it.
"""

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.captions import MAX_SIDE
from pipeline.errors import PipelineError

try:
    from pillow_heif import register_heif_opener
except ImportError:
    READS_HEIC = False
else:
    READS_HEIC = True
    register_heif_opener()

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in fractions of the image

# Datasets come from strangers: only these decoders are used, not Pillow's forty others. Pillow's plugins are
# loaded here, once, and not in several threads at a time.
_HEIF = ("HEIF",) if READS_HEIC else ()
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", *_HEIF)
Image.init()
INSTALL_HEIC = "HEIC is read with the package pillow-heif: pip install --editable '.[heic]'"
# Encoders scale by the shorter side: a line of pixels would fill the memory.
_MAX_RATIO = 100
# A file is read whole. Pillow refuses 179 megapixels and more, and few formats have over 3 bytes a pixel.
_MAX_BYTES = 512 * 2**20
_LIMIT = "data.max_megapixels"


def open_image(
    path: Path, max_megapixels: float, sha256: str | None = None, limit: str = _LIMIT
) -> Image.Image:
    """Read an image file in RGB, upright and fully decoded; of several frames the first.

    Args:
        path: the file.
        max_megapixels: compared with the size in the header, before anything is decoded.
        sha256: digest (hex) that the file must have, compared before anything is decoded.
        limit: name of `max_megapixels` in errors.

    Raises:
        PipelineError: naming the file, if it is missing, changed, not an image, damaged or too large.
    """
    content = _read_bytes(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise PipelineError(f"{path} has changed since it was listed. Fix: run `dvc repro` again.")
    return image_from_bytes(str(path), content, max_megapixels, limit)


def describe_image(path: Path, max_megapixels: float) -> tuple[str, int, int]:
    """SHA-256 (hex), width and height (pixels, upright) of an image file that can be decoded.

    All are of the same bytes, even if the file changes meanwhile. Raises as `open_image` does.
    """
    content = _read_bytes(path)
    image = image_from_bytes(str(path), content, max_megapixels, _LIMIT)
    return hashlib.sha256(content).hexdigest(), image.width, image.height


def image_from_array(array: npt.NDArray[Any]) -> Image.Image:
    """An RGB image from uint8 pixels: `[H, W]` gray, `[H, W, 3]` RGB or `[H, W, 4]` RGBA."""
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise PipelineError(
            f"an image array has shape {array.shape} and type {array.dtype}. "
            "Use uint8 of shape (H, W), (H, W, 3) or (H, W, 4), not empty."
        )
    return _to_rgb("an image array", Image.fromarray(array))


def image_from_pil(image: Image.Image, name: str = "the image") -> Image.Image:
    """A PIL image in RGB, turned as its EXIF orientation says, white where it is transparent."""
    rgb = _to_rgb(name, image)
    # Pixels are good even if EXIF is damaged. (Its parser raises SyntaxError, struct.error, ValueError, ...)
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:
        logger.warning("%s: EXIF cannot be read (%s); the image is taken as upright", name, error)
        return rgb
    rgb.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def crop(image: Image.Image, box: Box) -> Image.Image:
    """The part of `image` inside `box`, at its resolution, at least one pixel wide and high.

    Edges are rounded to the nearest pixel, so boxes that share an edge neither overlap nor leave a gap,
    unless one of them would be empty. Raises PipelineError for an impossible box and for a line of pixels.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise PipelineError(
            f"the box {box} is not a part of an image. "
            "Use left,top,right,bottom from 0 to 1 with left < right and top < bottom."
        )
    x0, x1 = _pixel_span(left, right, image.width)
    y0, y1 = _pixel_span(top, bottom, image.height)
    _check_shape(f"the box {box} of an image", (x1 - x0, y1 - y0))
    return image.crop((x0, y0, x1, y1))


def _pixel_span(start: float, end: float, length: int) -> tuple[int, int]:
    first = min(round(start * length), length - 1)
    return first, max(round(end * length), first + 1)


def _read_bytes(path: Path) -> bytes:
    """The content of an image file, read once: a file may be overwritten while it is open."""
    try:
        # Opening a pipe would wait for ever.
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise PipelineError(f"{path} is {kind}, expected an image file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise PipelineError(
                    f"{path} has more than the {_MAX_BYTES / 2**20:,.0f} MiB that are allowed for an image. "
                    "Fix: save it in another format or leave it out."
                )
            return file.read(size)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} does not exist; expected an image file.") from error
    except (OSError, ValueError) as error:
        raise PipelineError(f"cannot read {path}: {error}.") from error


def image_from_bytes(name: str, content: bytes, max_megapixels: float, limit: str) -> Image.Image:
    """Read an image from the content of a file, as `open_image` does.

    In errors, `name` is the image and `limit` the setting that bounds its size.
    """
    if not content:
        raise PipelineError(f"{name} is empty (0 bytes). Fix: get the file again or choose another.")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_shape(name, image.size)
            width, height = image.size
            if max(width, height) > MAX_SIDE:
                raise PipelineError(
                    f"{name} has {width} x {height} pixels; at most {MAX_SIDE} a side. Fix: scale it down."
                )
            if width * height > max_megapixels * 1e6:
                raise PipelineError(
                    f"{name} has {width} x {height} pixels, too many: {limit} is {max_megapixels:g}. "
                    "Fix: scale the image down, or raise the limit if you trust it."
                )
            image.load()
            return image_from_pil(image, name)
    except PipelineError:
        raise
    except UnidentifiedImageError as error:
        fix = "get the file again or leave it out"
        if content[4:8] == b"ftyp" and not READS_HEIC:
            fix = "for HEIC, run `pip install --editable '.[heic]'`"
        raise PipelineError(
            f"{name} is not a readable image. Use one of: {', '.join(_FORMATS)}. Fix: {fix}."
        ) from error
    # Damaged files make decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error; and Pillow
    # has its own limit for pixels.
    except Exception as error:
        raise PipelineError(
            f"{name} is truncated or damaged: {str(error).rstrip('.') or type(error).__name__}. "
            "Fix: get the file again or leave it out."
        ) from error


def _check_shape(name: str, size: tuple[int, int]) -> None:
    if max(size) > min(size) * _MAX_RATIO:
        raise PipelineError(
            f"{name} has {size[0]} x {size[1]} pixels; one side may be at most {_MAX_RATIO} times the other. "
            "Fix: take another part of it or leave it out."
        )


def _to_rgb(name: str, image: Image.Image) -> Image.Image:
    """`image` in RGB, without its file and its metadata; transparent pixels become white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16 bit at 255, which makes nearly everything white.
        gray = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        rgb = Image.fromarray(gray).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        rgb = Image.alpha_composite(white, rgba).convert("RGB")
    elif image.mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        rgb = image.convert("RGB")
    else:
        raise PipelineError(
            f"{name} has pixels of the kind {image.mode}. Use 1-, 8- or 16-bit gray, palette, RGB or CMYK."
        )
    # A color profile or an orientation that no longer applies must not be saved with a crop.
    rgb.info = {}
    return rgb
