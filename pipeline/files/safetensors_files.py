"""The headers of safetensors files: whether a file is whole, told without reading its tensors.

The library maps files into memory, where a disk that cannot be read kills the process (SIGBUS). Here files
are read, so that such a disk is an OSError.
"""

import json
import os
from pathlib import Path
from typing import BinaryIO

from pipeline.files.disk_errors import explain_read_errors
from pipeline.files.json_files import JsonObject

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def read_header(file: BinaryIO) -> tuple[JsonObject, int]:
    """The header of a safetensors file, and the place in bytes at which its tensors begin.

    Raises ValueError for a file that is damaged: the header says how many bytes there must be.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > min(size, _MAX_HEADER_BYTES):
        raise ValueError(f"it is cut off in its header ({size} bytes)")
    content = file.read(length)
    try:
        header: JsonObject = json.loads(content)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        begin = _LENGTH_BYTES + length
        expected = begin + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError("its header is not that of a safetensors file") from error
    if size != expected:
        raise ValueError(f"it has {size} bytes, its header says {expected}")
    return header, begin


def damaged_weights(folder: Path) -> dict[str, str]:
    """File names of missing and damaged weights -> what is wrong with each; empty where all is well.

    Weights are missing if an index names them. A folder without any weights is not called damaged. Raises
    PipelineError where the system refuses to read a file.
    """
    faults: dict[str, str] = {}
    for index in sorted(folder.glob("*.safetensors.index.json")):
        with explain_read_errors(index):
            content = index.read_bytes()
        try:
            named = set(json.loads(content)["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            faults[index.name] = "is not a readable index"
            continue
        if all(isinstance(name, str) and _is_plain(name) for name in named):
            faults |= {name: "is missing" for name in named if not (folder / name).is_file()}
        else:
            faults[index.name] = "is damaged: it names files outside its folder"
    for weights in sorted(folder.glob("*.safetensors")):
        if not weights.is_file():  # a link of the hub's cache to a file that is gone
            faults[weights.name] = "is missing"
            continue
        try:
            with explain_read_errors(weights), weights.open("rb") as file:
                read_header(file)
        except ValueError as error:
            faults[weights.name] = f"is damaged: {error}"
    return dict(sorted(faults.items()))


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name
