"""A pinned dataset: which parquet files of which commit of a hub repository, and their SHA-256.

The pins of Flickr8k are `pinned/flickr8k.json`. `data.root` and `data.pins` name the folder and the file, so
another dataset with a column of images and columns of captions needs no code.
"""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, StrictInt, StrictStr, TypeAdapter, field_validator
from pydantic.dataclasses import dataclass

from pipeline.captions import SPLITS, Split
from pipeline.datasets.text_files import parse_json, read_text
from pipeline.params.loader import validated
from pipeline.params.schema import text_like

_CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_CONFIG)
class Shard:
    """One parquet file: its split, its name in the repository, its SHA-256 (hex), its number of images."""

    split: Split
    file: Annotated[StrictStr, text_like(r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$", "a path like data/train.parquet")]
    sha256: Annotated[StrictStr, text_like("^[0-9a-f]{64}$", "64 hex digits")]
    rows: Annotated[StrictInt, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True, config=_CONFIG)
class PinnedDataset:
    """A dataset of the hub at one commit; the shards of a split are in order."""

    repository: StrictStr
    # A commit: a branch may move, and other images would come under the same names.
    revision: Annotated[StrictStr, text_like("^[0-9a-f]{40}$", "the 40 hex digits of a commit")]
    image_column: StrictStr
    caption_columns: Annotated[tuple[StrictStr, ...], Field(min_length=1)]
    license: StrictStr
    shards: Annotated[
        tuple[Shard, ...], Field(json_schema_extra={"errorMessage": "one or more of each split"})
    ]

    @field_validator("shards")
    @classmethod
    def _check_shards(cls, shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
        if {shard.split for shard in shards} != set(SPLITS):
            raise ValueError("a split has no shard")
        return shards


def read_pins(path: Path) -> PinnedDataset:
    """Read and check a file of pins. Raises PipelineError naming the file, the key and what is allowed."""
    content = parse_json(read_text(path), path)
    return validated(TypeAdapter(PinnedDataset), content, path, "pipeline/datasets/pinned/flickr8k.json")
