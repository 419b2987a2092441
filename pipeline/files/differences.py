"""Compare two nested mappings, so that an error can name the first key that differs."""

from collections.abc import Mapping
from typing import Any


def differences(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List the dotted name of each key that differs, sorted, with its two values; a missing key is None."""
    differing: list[tuple[str, Any, Any]] = []
    for key in sorted(actual.keys() | expected.keys()):
        value, other = actual.get(key), expected.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            differing += [(f"{key}.{name}", *values) for name, *values in differences(value, other)]
        elif value != other:
            differing.append((key, value, other))
    return differing
