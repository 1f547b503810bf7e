"""A YAML file that people write, held to a closed model: every error at once, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from tidewaiter_runtime.refusals import BadInput, listed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
_SHOWN = 60


def parse_declared(text: str, model: type[M], name: str) -> M:
    """One ``model``; ``name`` is the file's, for messages. Raises BadInput."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and (twice := list(_twice(node, set()))):
            raise BadInput(listed([f"{name}:{line}: key {key!r} is given twice; give it once" for key, line in twice]))
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise BadInput(f"{name}{line}: this is not YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: a value cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{name}:1: this is no mapping of keys to values, and it must be one")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        schema = model.model_json_schema(by_alias=True)
        problems = [_sentence(one, node, schema, name) for one in error.errors(include_url=False)]
        raise BadInput(listed(problems)) from None


def line_of(node: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """The line of the deepest part of ``location`` that the document has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _twice(node: yaml.Node, looked_at: set[int]) -> Iterator[tuple[str, int]]:
    if id(node) in looked_at:
        return  # an alias
    looked_at.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            text = str(key.value)
            if text in seen:
                yield text, key.start_mark.line + 1
            seen.add(text)
            yield from _twice(value, looked_at)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _twice(item, looked_at)


def _sentence(error: ErrorDetails, node: yaml.Node | None, schema: dict[str, Any], name: str) -> str:
    location = error["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "document"
    where = f"{name}:{line_of(node, location)}: {path}"
    if error["type"] == "extra_forbidden":
        allowed = _allowed(schema, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        return f"{where}: unknown key; allowed are {', '.join(allowed)}" + (
            f"; did you mean {close[0]!r}?" if close else ""
        )
    if error["type"] == "missing":
        return f"{where}: this key is required and missing"
    found = error.get("input")
    shown = "" if isinstance(found, dict | list) else f", found {str(found)[:_SHOWN]!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def _allowed(schema: dict[str, Any], location: tuple[str | int, ...]) -> list[str]:
    here = schema
    for part in location:
        here = _resolved(here, schema)
        if isinstance(part, int):
            here = here.get("items") or {}
        else:
            more = here.get("additionalProperties")
            here = (here.get("properties") or {}).get(part) or (more if isinstance(more, dict) else {})
    return sorted(_resolved(here, schema).get("properties") or {})


def _resolved(here: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    options = [one for one in here.get("anyOf", ()) if one.get("type") != "null"]
    here = options[0] if options else here
    reference = here.get("$ref")
    if isinstance(reference, str):
        found: dict[str, Any] = schema["$defs"][reference.rsplit("/", 1)[-1]]
        return found
    return here
