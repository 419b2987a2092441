"""Read a parquet file of images and captions, a few rows at a time, within bounds.

The bounds are needed because a small parquet file can unpack to any size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors

_BATCH_ROWS = 16
# Of one image, and of what is unpacked at a time.
MAX_IMAGE_BYTES = 64 * 2**20
MAX_ROW_GROUP_BYTES = 4 * 2**30


def read_rows(
    path: Path, image_column: str, caption_columns: Sequence[str], rows: int
) -> Iterator[tuple[bytes, list[object]]]:
    """Yield image file and captions of each of the `rows` rows, in order.

    The image column holds bytes, or a struct with `bytes` as the `datasets` library writes it. Raises
    PipelineError for anything else and for images or row groups that are too large.
    """
    columns = [image_column, *caption_columns]
    try:
        with explain_read_errors(path), pyarrow.parquet.ParquetFile(path) as file:
            _check(path, file, columns, rows)
            batches = file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)
            for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                image = row[image_column]
                data = image.get("bytes") if isinstance(image, dict) else image
                if not isinstance(data, bytes) or not 0 < len(data) <= MAX_IMAGE_BYTES:
                    raise PipelineError(
                        f"{path}: row {number} has no image in its column {image_column}; an image has 1 to "
                        f"{MAX_IMAGE_BYTES} bytes."
                    )
                yield data, [row[name] for name in caption_columns]
    except (pyarrow.ArrowException, OSError) as error:
        raise PipelineError(f"{path} is not a parquet file: {' '.join(str(error).split())}") from error


def _check(path: Path, file: pyarrow.parquet.ParquetFile, columns: Sequence[str], rows: int) -> None:
    names = file.schema_arrow.names
    for name in columns:
        if names.count(name) != 1:
            raise PipelineError(f"{path} has no column {name!r}; its columns are {', '.join(names)}.")
    metadata = file.metadata
    if metadata.num_rows != rows:
        raise PipelineError(f"{path} has {metadata.num_rows} rows, its pins say {rows}.")
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if (size := group.total_byte_size) > MAX_ROW_GROUP_BYTES:
            raise PipelineError(
                f"{path} unpacks {size} bytes at a time; at most {MAX_ROW_GROUP_BYTES} are allowed."
            )
