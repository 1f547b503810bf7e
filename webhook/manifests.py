"""Kubernetes manifests on disk or standard input, with the line of each field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson
import yaml

from admission.strict_yaml import duplicate_keys, line_of, syntax_problem

STDIN = "-"
_STDIN_NAME = "<stdin>"
_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_NODES = 1_000_000
_PATH = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_TIMESTAMP, _INTEGER = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C where there is one
    """YAML as kubectl reads it: no timestamps, and 1:30 is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] not in (_TIMESTAMP, _INTEGER)]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INTEGER, re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"), list("-+0123456789")
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object. ``location`` is where it stands in its document: empty but for items of a List."""

    source: str
    obj: dict[str, Any]
    node: yaml.Node
    location: tuple[str | int, ...] = ()

    def line(self, path: str = "") -> int:
        """The line of a field path (``spec.containers[0].image``), or of the nearest field above it."""
        return line_of(self.node, (*self.location, *_parts(path)))

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.obj.get("kind") or "")

    @property
    def group(self) -> str:
        """The API group; "" for the core."""
        group, slash, _ = str(self.obj.get("apiVersion") or "").partition("/")
        return group if slash else ""

    @property
    def version(self) -> str:
        """The API version without its group."""
        return str(self.obj.get("apiVersion") or "").rpartition("/")[2]

    @property
    def name(self) -> str:
        """The object's name, or what its name will begin with."""
        metadata = self.metadata
        return str(metadata.get("name") or metadata.get("generateName") or "")

    @property
    def namespace(self) -> str:
        """The namespace that the object names."""
        return str(self.metadata.get("namespace") or "")

    @property
    def metadata(self) -> dict[str, Any]:
        """``metadata``, for reading; empty where it is no object."""
        metadata = self.obj.get("metadata")
        return metadata if isinstance(metadata, dict) else {}


def _parts(path: str) -> Iterator[str | int]:
    for bracket, word in _PATH.findall(path):
        part = bracket or word
        yield int(part) if bracket.isdecimal() else part


def read_manifests(sources: Iterable[str], stdin: TextIO) -> tuple[list[Manifest], list[str]]:
    """Every object of files, folders (searched through) and ``-``; and a sentence for each problem."""
    manifests: list[Manifest] = []
    problems: list[str] = []
    for source in sources:
        for name, text, named in _texts(source, stdin, problems):
            before = len(manifests), len(problems)
            _read(name, text, manifests, problems, named=named)
            if named and (len(manifests), len(problems)) == before:
                problems.append(f"{name}: there is no object in it; what was judged is nothing")
    return manifests, problems


def _texts(source: str, stdin: TextIO, problems: list[str]) -> Iterator[tuple[str, str, bool]]:
    if source == STDIN:
        try:
            yield _STDIN_NAME, stdin.read(), True
        except UnicodeDecodeError:
            problems.append(f"{_STDIN_NAME}: this is not UTF-8 text")
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
        if not files:
            problems.append(f"{source}: no {', '.join(_SUFFIXES)} file in this folder")
    else:
        files = [path]
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8"), file is path
        except UnicodeDecodeError:
            problems.append(f"{file}: this is not UTF-8 text")
        except OSError as error:
            problems.append(f"{file}: cannot be read: {error.strerror}")


def _read(name: str, text: str, manifests: list[Manifest], problems: list[str], *, named: bool) -> None:
    """``named`` files must hold Kubernetes objects; in a searched folder other YAML is passed over."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            twice = duplicate_keys(node, name)
            problems += twice
            if not twice:
                manifests += _manifests(name, node, _plain(loader, node), problems, named=named)
    except yaml.YAMLError as error:
        hint = "; render the chart first: helm template . | tidewaiter review -" if "{{" in text else ""
        problems.append(f"{syntax_problem(error, name)}{hint}")
    except RecursionError:
        problems.append(f"{name}: the document is nested too deep")
    except (ValueError, TypeError) as error:
        problems.append(f"{name}: a value cannot be read: {error}")
    finally:
        loader.dispose()


def _plain(loader: _Loader, node: yaml.Node) -> Any:
    """The document as plain JSON values, aliases written out."""
    if _size(node, {}) > _MAX_NODES:
        raise ValueError(f"the document has more than {_MAX_NODES} values once its aliases are written out")
    try:
        return orjson.loads(orjson.dumps(loader.construct_document(node)))
    except orjson.JSONEncodeError as error:
        raise ValueError(f"a Kubernetes object is JSON, and this is not: {error}") from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values the node has with its aliases written out."""
    size = known.get(id(node))
    if size is None:
        known[id(node)] = _MAX_NODES  # a node that contains itself never ends
        if isinstance(node, yaml.MappingNode):
            size = 1 + sum(_size(value, known) for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            size = 1 + sum(_size(item, known) for item in node.value)
        else:
            size = 1
        known[id(node)] = size
    return size


def _manifests(name: str, node: yaml.Node, document: Any, problems: list[str], *, named: bool) -> Iterator[Manifest]:
    if document is None:
        return
    if not isinstance(document, dict) or not document.get("apiVersion") or not document.get("kind"):
        if named:
            line = node.start_mark.line + 1
            problems.append(f"{name}:{line}: this is no Kubernetes object: it needs apiVersion and kind")
        return
    if not (str(document["kind"]).endswith("List") and isinstance(document.get("items"), list)):
        yield Manifest(name, document, node)
        return
    for index, item in enumerate(document["items"]):
        if isinstance(item, dict) and item.get("apiVersion") and item.get("kind"):
            yield Manifest(name, item, node, ("items", index))
        else:
            line = line_of(node, ("items", index))
            problems.append(f"{name}:{line}: items[{index}] is no Kubernetes object: it needs apiVersion and kind")
