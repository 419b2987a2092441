"""The rows of a parquet file of images and captions, a few at a time, within bounds.

Bounds, because a small parquet file can unpack to any size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from pipeline.errors import PipelineError
from pipeline.files.disk_errors import explain_read_errors

_BATCH_ROWS = 16
# What one image may hold, and what may be unpacked at a time.
MAX_IMAGE_BYTES = 64 * 2**20
MAX_ROW_GROUP_BYTES = 4 * 2**30


def read_rows(
    path: Path, image_column: str, caption_columns: Sequence[str], rows: int
) -> Iterator[tuple[bytes, list[object]]]:
    """Yield an image file's bytes and the captions as they stand there, of `rows` rows, in order.

    The image column holds bytes, or a struct with `bytes` as the `datasets` library writes it. Raises
    PipelineError for anything else and for absurd sizes.
    """
    try:
        with explain_read_errors(path), pyarrow.parquet.ParquetFile(path) as file:
            _check(path, file, [image_column, *caption_columns], rows)
            batches = file.iter_batches(
                _BATCH_ROWS, columns=[image_column, *caption_columns], use_threads=False
            )
            all_rows = (row for batch in batches for row in batch.to_pylist())
            for number, row in enumerate(all_rows):
                image = row[image_column]
                data = image.get("bytes") if isinstance(image, dict) else image
                if not isinstance(data, bytes) or not 0 < len(data) <= MAX_IMAGE_BYTES:
                    raise PipelineError(
                        f"{path}: row {number} has no image of 1 to {MAX_IMAGE_BYTES} bytes in its "
                        f"column {image_column}."
                    )
                yield data, [row[name] for name in caption_columns]
    except (pyarrow.ArrowException, OSError) as error:
        raise PipelineError(f"{path} is no readable parquet file: {' '.join(str(error).split())}") from error


def _check(path: Path, file: pyarrow.parquet.ParquetFile, columns: Sequence[str], rows: int) -> None:
    names = file.schema_arrow.names
    for name in columns:
        if names.count(name) != 1:
            raise PipelineError(f"{path} has no column {name!r}; its columns are {', '.join(names)}.")
    facts = file.metadata
    if facts.num_rows != rows:
        raise PipelineError(f"{path} has {facts.num_rows} rows, its pins say {rows}.")
    for number in range(facts.num_row_groups):
        size = facts.row_group(number).total_byte_size
        if size > MAX_ROW_GROUP_BYTES:
            raise PipelineError(
                f"{path} unpacks {size} bytes at a time; allowed: at most {MAX_ROW_GROUP_BYTES}."
            )
