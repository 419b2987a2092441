"""The strict loader of params.yaml, and params.schema.json, by which editors check and complete the file.

It reads YAML 1.2 as DVC does. In YAML 1.1, `1e-3` is text, and so is what
`dvc exp run -S train.learning_rate=1e-5` writes.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError, shorten
from pipeline.params.schema import Params

T = TypeVar("T")

PARAMS: TypeAdapter[Params] = TypeAdapter(Params)

_MAX_BYTES = 1_000_000
_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "a list of text",
}
_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "to below"}


def load_params(path: Path) -> Params:
    """Read and check a params file.

    Raises PipelineError with the file, the key, the value and what is allowed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PipelineError(f"{path} has more than {_MAX_BYTES} bytes, which no params file has.")
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PipelineError(
            f"{path} does not exist. Fix: run the command in the project's folder."
        ) from error
    except OSError as error:
        raise PipelineError(f"Cannot read {path}: {error.strerror}.") from error
    # The parser also lets through the errors of numbers, dates and recursion.
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise PipelineError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    return validated(PARAMS, content, path, "profiles/sample.yaml")


def validated(adapter: TypeAdapter[T], content: object, path: Path, example: str) -> T:
    """Convert a file's content to the classes of a pydantic adapter.

    Args:
        adapter: the classes.
        content: the content of the file, of YAML or JSON.
        path: the file, for messages.
        example: a file that has every key.

    Raises:
        PipelineError: with the file, the key, the value and what is allowed.
    """
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        # A wrong key says more than a missing one, and both say more than a wrong value.
        order = ("unexpected_keyword_argument", "invalid_key", "missing")
        first = min(error.errors(), key=lambda e: (*order, e["type"]).index(e["type"]))
        reason = _explain(first["loc"], content, adapter.json_schema(), example)
        raise PipelineError(f"{path}: {reason}.") from error


def _explain(place: tuple[int | str, ...], value: Any, schema: dict[str, Any], example: str) -> str:
    """Say what is wrong at a place in the file's content `value`, and what is allowed there."""
    key, node = "", schema
    for name in place:
        known = node.get("properties", {})
        if "$ref" in node.get("items", {}):
            node = node["items"]
        elif not known:  # behind the key stands its type or its place in a list of texts
            break
        elif name not in known:
            return f"unknown key {key}{name!s:.60}; allowed here: {', '.join(known)}"
        elif name not in value:
            return f"{key}{name} is missing; compare the section with {example}"
        else:
            node = known[name]
        value, key = value[name], f"{key}{name}."
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    key = key.rstrip(".") or "the file"
    if "properties" in node:
        return f"{key} is {shorten(value)}, expected a section of keys"
    return f"{key} is {shorten(value)}; allowed: {_allowed(node)}"


def _allowed(node: dict[str, Any]) -> str:
    """Say what a node of the JSON schema allows."""
    if "anyOf" in node:
        return " or ".join(map(_allowed, node["anyOf"]))
    words = node.get("errorMessage") or node.get("items", {}).get("errorMessage")
    if words:
        return str(words)
    if "enum" in node or "const" in node:
        return ", ".join(node.get("enum", [node.get("const")]))
    bounds = [f" {word} {node[name]}" for name, word in _BOUNDS.items() if name in node]
    return "".join([_WORDS[node["type"]], *bounds, ", not empty" if "minItems" in node else ""])


class _Untitled(GenerateJsonSchema):
    """Leaves out titles, which repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def json_schema() -> dict[str, Any]:
    """Return the content of params.schema.json, which `make schema` writes."""
    return PARAMS.json_schema(schema_generator=_Untitled)
