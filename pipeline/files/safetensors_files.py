"""Whether the safetensors files of a model folder are whole, told from their headers without reading them."""

import json
from pathlib import Path

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def damaged_weights(folder: Path) -> dict[str, str]:
    """File names of missing and broken weights -> what is wrong with each; empty where all is well.

    Missing are those that an index names. A folder without any weights is not called damaged.
    """
    faults: dict[str, str] = {}
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            faults[index.name] = "is no readable index"
            continue
        if not all(isinstance(name, str) and _is_plain(name) for name in named):
            faults[index.name] = "is damaged: it names files outside its folder"
            continue
        faults |= {name: "is missing" for name in named if not (folder / name).is_file()}
    for file in sorted(folder.glob("*.safetensors")):
        fault = _fault(file)
        if fault:
            faults[file.name] = fault
    return dict(sorted(faults.items()))


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def _fault(file: Path) -> str | None:
    """What is wrong with one file: the header says how many bytes there must be."""
    try:
        size = file.stat().st_size
        with file.open("rb") as content:
            length = int.from_bytes(content.read(_LENGTH_BYTES), "little")
            if length > min(size, _MAX_HEADER_BYTES):
                return f"is damaged: it is cut off in its header ({size} bytes)"
            header = json.loads(content.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "is damaged: its header is not that of a safetensors file"
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        return f"is damaged: it has {size} bytes, its header says {expected}"
    return None
