"""A pinned dataset: which parquet files of which commit of a hub repository, and their SHA-256.

The pins of Flickr8k are in `flickr8k.json` beside this file; `data.root` names the file, so another dataset
with a column of images and columns of captions needs no code.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.captions import SPLITS, Split
from pipeline.datasets.checks import parse_json, read_text
from pipeline.errors import PipelineError

_MAX_ROWS = 1_000_000


@dataclass(frozen=True)
class Shard:
    """One parquet file: its split, its name in the repository, its SHA-256 (hex), its images."""

    split: Split
    file: str
    sha256: str
    rows: int

    def __post_init__(self) -> None:
        _require(self.split in SPLITS, "split", self.split, ", ".join(SPLITS))
        # Nothing but plain names below the repository's root.
        plain = isinstance(self.file, str) and re.fullmatch(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*", self.file)
        _require(bool(plain), "file", self.file, "a path like data/train.parquet")
        _require(
            bool(re.fullmatch(r"[0-9a-f]{64}", str(self.sha256))), "sha256", self.sha256, "64 hex digits"
        )
        _require(
            type(self.rows) is int and 1 <= self.rows <= _MAX_ROWS, "rows", self.rows, f"1 to {_MAX_ROWS}"
        )


@dataclass(frozen=True)
class PinnedDataset:
    """A dataset of the hub at one commit; shards of a split are in its order."""

    repository: str
    revision: str
    image_column: str
    caption_columns: tuple[str, ...]
    licence: str
    shards: tuple[Shard, ...]

    def __post_init__(self) -> None:
        is_commit = re.fullmatch(r"[0-9a-f]{40}", str(self.revision))
        _require(bool(is_commit), "revision", self.revision, "the 40 hex digits of a commit")
        for name in ("repository", "image_column", "licence"):
            _require(isinstance(getattr(self, name), str), name, getattr(self, name), "text")
        columns = self.caption_columns
        _require(
            len(columns) > 0 and all(isinstance(c, str) for c in columns),
            "caption_columns",
            columns,
            "the names of one column or more",
        )
        for split in SPLITS:
            _require(any(s.split == split for s in self.shards), "shards", split, "one or more of each split")


def read_pins(path: Path) -> PinnedDataset:
    """Read and check a file of pins. Raises PipelineError naming the file and what is wrong."""
    content: Any = parse_json(read_text(path), path)
    try:
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        columns = tuple(content.pop("caption_columns"))
        return PinnedDataset(**content, caption_columns=columns, shards=shards)
    except (AttributeError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{path} does not pin a dataset ({error}); pipeline/datasets/flickr8k.json shows the form."
        ) from error
    except ValueError as error:
        raise PipelineError(f"{path}: {error}.") from error


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{key} is {value!r:.80}; allowed: {allowed}")
