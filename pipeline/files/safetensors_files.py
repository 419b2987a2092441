"""Read the headers of safetensors files, which say whether a file is complete.

The library maps files into memory, where a failing disk kills the process (SIGBUS). Here files are read, so
that a failing disk is an OSError.
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
    """The header of a safetensors file, and the offset in bytes at which its tensors begin.

    Raises ValueError if the file is damaged or has another size than its header says.
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
    """Map the names of missing and damaged weight files to what is wrong with each.

    Weights are missing if an index names them and they do not exist; a folder without weights is not damaged.
    Raises PipelineError if the system refuses to read a file.
    """
    faults: dict[str, str] = {}
    for index in sorted(folder.glob("*.safetensors.index.json")):
        with explain_read_errors(index):
            content = index.read_bytes()
        try:
            names = set(json.loads(content)["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            faults[index.name] = "is not a readable index"
            continue
        # Plain names only; pathlib counts "" and ".." as such.
        if all(isinstance(n, str) and Path(n).name == n and n not in ("", "..") for n in names):
            faults |= {name: "is missing" for name in names if not (folder / name).is_file()}
        else:
            faults[index.name] = "is damaged: it names files outside its folder"
    for weights in sorted(folder.glob("*.safetensors")):
        if not weights.is_file():  # a link of the hub's cache to a deleted file
            faults[weights.name] = "is missing"
            continue
        try:
            with explain_read_errors(weights), weights.open("rb") as file:
                read_header(file)
        except ValueError as error:
            faults[weights.name] = f"is damaged: {error}"
    return dict(sorted(faults.items()))
