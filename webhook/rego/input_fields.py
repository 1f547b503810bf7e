"""Fields of ``input`` that a policy reads and that no input has: a typing error makes a rule silent.

Follows variables through ``some``, ``every``, ``:=`` and imports, within one rule body.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from webhook.rego.policy_set import PolicyModule

Schema = Mapping[str, Any]
_ANY: Schema = {}
_Known = dict[str, tuple[Schema, str]]
_FIELD_CALLS = ("object.get",)


@dataclass(frozen=True, slots=True)
class UnknownField:
    """Where a field is read that the schema does not have; ``names`` are those that it has there."""

    path: str
    line: int
    column: int
    read: str
    names: tuple[str, ...]

    def text(self) -> str:
        """The sentence."""
        field = self.read.rpartition(".")[2]
        close = difflib.get_close_matches(field, self.names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(self.names))}"
        return f"{self.path}:{self.line}:{self.column}: {self.read} does not exist; {hint}"


@cache
def input_schema() -> Schema:
    """The published JSON Schema of the input."""
    schema: Schema = json.loads(
        files("policies").joinpath("schemas").joinpath("input.json").read_text(encoding="utf-8")
    )
    return schema


def unknown_fields(module: PolicyModule) -> list[UnknownField]:
    """Every read of a field that does not exist, in the order of the file."""
    reader = _Reader(module)
    known: _Known = {"input": (input_schema(), "input")}
    for one in module.syntax["imports"]:
        found = reader.typed(one["refr"], known)
        name = _word(module.text, one["as"]) if one.get("as") else _last(one["refr"])
        if found is not None and name:
            known[name] = found
    for rule in module.syntax["rules"]:
        reader.walk(rule, dict(known))
    return list(dict.fromkeys(reader.found))


class _Reader:
    def __init__(self, module: PolicyModule) -> None:
        self._path = module.path
        self._text = module.text
        self._visits: dict[str, Callable[[Any, _Known], None]] = {
            "RefDot": self._dot,
            "RefBrack": self._bracket,
            "SomeIn": self._some,
            "Every": self._every,
            "ArrayCompr": self._comprehension,
            "SetCompr": self._comprehension,
            "ObjectCompr": self._comprehension,
            "bodies": self._bodies,
            "AssignExpr": self._assign,
            "Call": self._call,
        }
        self.found: list[UnknownField] = []

    def walk(self, node: Any, known: _Known) -> None:
        """Visit ``node``; what it binds is added to ``known``."""
        if isinstance(node, list):
            for one in node:
                self.walk(one, known)
        elif isinstance(node, dict):
            for kind, value in node.items():
                visit = self._visits.get(kind)
                if visit is None:
                    self.walk(value, known)
                else:
                    visit(value, known)

    def _dot(self, value: Any, known: _Known) -> None:
        self.typed({"RefDot": value}, known)

    def _bracket(self, value: Any, known: _Known) -> None:
        self.typed({"RefBrack": value}, known)
        self.walk(value["index"], known)

    def _some(self, value: Any, known: _Known) -> None:
        self._bind_items(value["value"], value["collection"], known)

    def _every(self, value: Any, known: _Known) -> None:
        inner = dict(known)
        self._bind_items({"Var": {"value": _word(self._text, value["value"])}}, value["domain"], inner)
        self.walk(value["query"], inner)

    def _comprehension(self, value: Any, known: _Known) -> None:
        # The term is written first and bound by the query after it.
        inner = dict(known)
        self.walk(value["query"], inner)
        self.walk({key: one for key, one in value.items() if key != "query"}, inner)

    def _bodies(self, value: Any, known: _Known) -> None:
        for body in value:
            inner = dict(known)
            self.walk(body.get("query"), inner)
            self.walk(body.get("assign"), inner)

    def typed(self, node: Any, known: Mapping[str, tuple[Schema, str]]) -> tuple[Schema, str] | None:
        """The schema of an expression and its name; None where it is none of the input's."""
        kind, value = next(iter(node.items())) if isinstance(node, dict) and node else ("", {})
        if kind == "Var":
            return known.get(value["value"])
        if kind not in ("RefDot", "RefBrack"):
            return None
        parent = self.typed(value["refr"], known)
        if parent is None:
            return None
        if kind == "RefDot":
            span, name = value["field"]
            return self._field(parent, name, span)
        index = value["index"]
        if "String" in index:
            return self._field(parent, index["String"]["value"], index["String"]["span"])
        return self._items(parent)

    def _field(self, parent: tuple[Schema, str], name: str, span: Mapping[str, int]) -> tuple[Schema, str]:
        schema, read = parent[0], f"{parent[1]}.{name}"
        properties = schema.get("properties")
        if properties is None:
            more = schema.get("additionalProperties")
            return (more if isinstance(more, dict) else _ANY, read)
        if name not in properties:
            self.found.append(UnknownField(self._path, span["line"], span["col"], read, tuple(properties)))
            return _ANY, read
        return properties[name], read

    def _items(self, parent: tuple[Schema, str]) -> tuple[Schema, str]:
        schema, read = parent
        more = schema.get("items") or schema.get("additionalProperties")
        return (more if isinstance(more, dict) else _ANY, f"{read}[_]")

    def _bind_items(self, variable: Any, collection: Any, known: _Known) -> None:
        self.walk(collection, known)
        found = self.typed(collection, known)
        for name in _variables(variable):
            known.pop(name, None)
            if found is not None:
                known[name] = self._items(found)

    def _assign(self, value: Mapping[str, Any], known: _Known) -> None:
        self.walk(value["lhs"], known)
        self.walk(value["rhs"], known)
        found = self.typed(value["rhs"], known)
        for name in _variables(value["lhs"]):
            if value["op"] == "ColEq":
                known.pop(name, None)
            if found is not None:
                known[name] = found

    def _call(self, value: Mapping[str, Any], known: _Known) -> None:
        self.walk(value["params"], known)
        params = value["params"]
        if _dotted(value["fcn"]) in _FIELD_CALLS and len(params) > 1 and "String" in params[1]:
            parent = self.typed(params[0], known)
            if parent is not None:
                self._field(parent, params[1]["String"]["value"], params[1]["String"]["span"])


def _variables(node: Any) -> Iterator[str]:
    """A variable that is bound as a whole; one inside a pattern has no type here."""
    if isinstance(node, dict) and "Var" in node:
        yield node["Var"]["value"]


def _last(node: Any) -> str:
    value = node.get("RefDot")
    return str(value["field"][1]) if value else ""


def _word(text: str, span: Mapping[str, int]) -> str:
    """The name after ``as``: regorus gives the span of the import or of the name."""
    return text.encode()[span["start"] : span["end"]].decode().split()[-1]


def _dotted(node: Any) -> str:
    if "Var" in node:
        return str(node["Var"]["value"])
    value = node.get("RefDot")
    return f"{_dotted(value['refr'])}.{value['field'][1]}" if value else ""
