"""In which facts two sets of facts differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name of each fact that differs, and its value in each set; by name."""
    for key in sorted(one.keys() | other.keys()):
        value, wanted = one.get(key), other.get(key)
        if isinstance(value, Mapping) and isinstance(wanted, Mapping):
            for name, *values in differences(value, wanted):
                yield f"{key}.{name}", *values
        elif value != wanted:
            yield key, value, wanted
