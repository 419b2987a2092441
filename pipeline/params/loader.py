"""The strict loader of params.yaml.

An unknown or missing key, a value of the wrong type or out of range is an error that names file, key,
value and what is allowed. It reads YAML 1.2 as DVC does: under YAML 1.1, `1e-3` and what
`dvc exp run -S train.learning_rate=1e-5` writes would be strings.
"""

import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError, shown
from pipeline.params.schema import OutOfRangeError, Params

_MAX_BYTES = 1_000_000
_MAX_NUMBER = 1e300


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises PipelineError naming the file, the key, the value found and what is allowed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PipelineError(f"{path} has more than {_MAX_BYTES} bytes; is it a params file?")
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PipelineError(
            f"{path} does not exist; run from the project's root, where params.yaml lies."
        ) from error
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}.") from error
    # Beside its own errors the parser lets through those of numbers, dates and recursion.
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise PipelineError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    params: Params = _build(Params, content, path, key="")
    return params


def _build(cls: type[Any], content: object, path: Path, key: str) -> Any:
    """An instance of the dataclass `cls` from a YAML mapping; `key` is its dotted place in the file."""
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: {key or 'the file'} is {shown(content)}, expected a section of keys.")
    names = [f.name for f in fields(cls)]
    dotted = f"{key}." if key else ""
    for name in content:
        if name not in names:
            raise PipelineError(
                f"{path}: unknown key {dotted}{name!s:.60}; allowed here: {', '.join(names)}."
            )
    missing = [name for name in names if name not in content]
    if missing:
        raise PipelineError(
            f"{path}: {dotted}{missing[0]} is missing; compare the section with profiles/sample.yaml."
        )
    hints = typing.get_type_hints(cls)
    values = {n: _convert(hints[n], content[n], path, f"{dotted}{n}") for n in names}
    try:
        return cls(**values)
    except OutOfRangeError as error:
        raise PipelineError(f"{path}: {dotted}{error}.") from error


def _convert(hint: Any, value: object, path: Path, key: str) -> Any:
    """`value` as the annotated type; int widens to float, nothing else is coerced."""
    if is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, path, key)
    for option in _options(hint):
        if typing.get_origin(option) is Literal and isinstance(value, str):
            if value in typing.get_args(option):
                return value
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) <= _MAX_NUMBER:  # neither infinite nor NaN
                return float(value)
        elif option is int and type(value) is int:
            if abs(value) <= _MAX_NUMBER:
                return value
        elif option in (str, bool, type(None)) and type(value) is option:
            return value
        elif typing.get_origin(option) is tuple and isinstance(value, list):
            return tuple(_convert(typing.get_args(option)[0], item, path, key) for item in value)
    raise PipelineError(f"{path}: {key} is {shown(value)}; allowed: {_describe(hint)}.")


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if is_union else (hint,)


def _describe(hint: Any) -> str:
    """The annotated type in a user's words."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    parts = []
    for option in _options(hint):
        if typing.get_origin(option) is Literal:
            parts.append(", ".join(typing.get_args(option)))
        elif typing.get_origin(option) is tuple:
            parts.append("a list of text")
        else:
            parts.append(words.get(option, "null"))
    return " or ".join(parts)
