"""Comparing two sets of facts, so that an error can name the first one that differs."""

from collections.abc import Mapping
from typing import Any


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the dotted name of each fact that differs, sorted, with its value in `found` and in `wanted`.

    A fact that one of them lacks counts as None.
    """
    differing: list[tuple[str, Any, Any]] = []
    for key in sorted(found.keys() | wanted.keys()):
        value, expected = found.get(key), wanted.get(key)
        if isinstance(value, Mapping) and isinstance(expected, Mapping):
            differing += [(f"{key}.{name}", *values) for name, *values in differences(value, expected)]
        elif value != expected:
            differing.append((key, value, expected))
    return differing
