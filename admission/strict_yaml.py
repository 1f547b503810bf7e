"""YAML documents held to a model: every error at once, each with its line.

For files that people write (settings, the file registry). Reading the file is the
caller's business.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C where there is one
    """A safe loader in which only true and false are booleans, as in YAML 1.2: ``off`` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != _BOOLEAN]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_SHOWN = 80


class DocumentError(Exception):
    """The document is refused. ``problems`` are sentences, each with file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


Problem = tuple[tuple[str | int, ...], str]
"""A location in the document, and a sentence about it."""


def parse_document(
    text: str, model: type[M], name: str, agree: Callable[[M], Iterable[Problem]] = lambda _document: ()
) -> M:
    """Parse ``text`` as one ``model``; ``name`` is the file's name for messages.

    An empty document is the model with its defaults. ``agree`` checks what no single
    field shows; what it yields gets file and line too.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise DocumentError([syntax_problem(error, name)]) from None
    if node is None:
        data: Any = {}
    else:
        twice = list(duplicate_keys(node, name))
        if twice:
            raise DocumentError(twice)
        data = _constructed(text, name)
    if not isinstance(data, dict):
        line = node.start_mark.line + 1 if node is not None else 1
        raise DocumentError([f"{name}:{line}: this is no mapping of keys to values, and it must be one"])
    try:
        document = model.model_validate(data)
    except ValidationError as error:
        schema = model.model_json_schema(by_alias=True)
        problems = [_problem(dict(one), node, schema, name) for one in error.errors(include_url=False)]
        raise DocumentError(problems) from None
    disagreements = [
        f"{name}:{line_of(node, location)}: {_path(location)}: {message}" for location, message in agree(document)
    ]
    if disagreements:
        raise DocumentError(disagreements)
    return document


def _constructed(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # it is a safe loader
    except yaml.YAMLError as error:
        raise DocumentError([syntax_problem(error, name)]) from None
    except ValueError as error:
        # PyYAML lets these out: the 30th of February, an integer of 5,000 digits.
        raise DocumentError([f"{name}: a value cannot be read: {error}"]) from None


def syntax_problem(error: yaml.YAMLError, name: str) -> str:
    """A sentence with file and line for what is not YAML."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    problem = getattr(error, "problem", None) or str(error)
    return f"{name}{line}: this is not YAML: {problem}"


def duplicate_keys(node: yaml.Node, name: str, looked_at: set[int] | None = None) -> list[str]:
    """A sentence for each key that stands twice in one mapping."""
    looked_at = set() if looked_at is None else looked_at
    if id(node) in looked_at:
        return []  # an alias; a node may even contain itself
    looked_at.add(id(node))
    problems: list[str] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            text = str(getattr(key, "value", key))
            if text in seen:
                problems.append(f"{name}:{line}: key {text!r} was given already on line {seen[text]}; give it once")
            seen.setdefault(text, line)
            problems += duplicate_keys(value, name, looked_at)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            problems += duplicate_keys(item, name, looked_at)
    return problems


def _problem(error: dict[str, Any], node: yaml.Node | None, schema: dict[str, Any], name: str) -> str:
    location = tuple(part for part in error["loc"] if part != "[key]")
    line = line_of(node, location)
    where = f"{name}:{line}: {_path(location)}"
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(schema, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{where}: unknown key; allowed are {', '.join(allowed) or 'none'}{hint}"
    if error["type"] == "missing":
        return f"{where}: this key is required and missing"
    found = error.get("input")
    shown = "" if isinstance(found, dict | list) else f", found {str(found)[:_SHOWN]!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def _path(location: tuple[Any, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.lstrip(".") or "document"


def line_of(node: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """The line of the deepest part of ``location`` that the document has.

    In a list, a text picks the entry of that name, as Kubernetes' own lists are keyed.
    """
    if node is None:
        return 1
    line = int(node.start_mark.line) + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode):
            item = _item(node, part)
            if item is None:
                break
            line, node = item.start_mark.line + 1, item
        else:
            break
    return line


def _item(sequence: yaml.SequenceNode, part: str | int) -> yaml.Node | None:
    if isinstance(part, int):
        return sequence.value[part] if part < len(sequence.value) else None
    for item in sequence.value:
        if isinstance(item, yaml.MappingNode):
            for key, value in item.value:
                if key.value == "name" and value.value == part:
                    found: yaml.Node = item
                    return found
    return None


def _allowed_keys(schema: dict[str, Any], location: tuple[Any, ...]) -> list[str]:
    """The property names at ``location`` of a JSON Schema."""
    here: dict[str, Any] = schema
    for part in location:
        here = _resolved(here, schema)
        if isinstance(part, int):
            here = here.get("items") or {}
        else:
            extra = here.get("additionalProperties")
            here = (here.get("properties") or {}).get(part) or (extra if isinstance(extra, dict) else {})
    return sorted(_resolved(here, schema).get("properties") or {})


def _resolved(here: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in here.get("anyOf", ()):
        if option.get("type") != "null":
            here = option
            break
    reference = here.get("$ref")
    if isinstance(reference, str):
        resolved: dict[str, Any] = schema["$defs"][reference.rsplit("/", 1)[-1]]
        return resolved
    return here
