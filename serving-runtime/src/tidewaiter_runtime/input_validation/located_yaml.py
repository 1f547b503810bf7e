"""YAML files with a closed schema: every problem at once, each with file and line.

A reader asks a section for what it knows and then calls ``done``; what nobody asked for is a
problem, as is a key that is there twice. Values are checked where they are asked for, so that
the schema and its reader cannot differ.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from tidewaiter_runtime.refusals import BadInput, listed

T = TypeVar("T")
_LARGEST = 1 << 20
_SHOWN = 60


@dataclass(slots=True)
class Problems:
    """Sentences about one file, each with its line."""

    file: str
    found: list[str] = field(default_factory=list)

    def add(self, node: yaml.Node, sentence: str) -> None:
        """Keep one sentence about ``node``."""
        self.found.append(f"{self.file}:{node.start_mark.line + 1}: {sentence}")


class Section:
    """One mapping of the document, at ``path``; answers are checked and remembered as known."""

    def __init__(self, node: yaml.Node | None, path: str, problems: Problems) -> None:
        self._path = path
        self._problems = problems
        self._nodes: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self._known: set[str] = set()
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            problems.add(node, f"{path or 'the document'}: found {_shown(node)}; expected a mapping")
            return
        for key, value in node.value:
            name = str(key.value)
            if name in self._nodes:
                problems.add(key, f"{self._at(name)} is there twice; keep one")
            self._nodes[name] = (key, value)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def problem(self, name: str, sentence: str) -> None:
        """Say what is wrong with the value of ``name``."""
        key = self._nodes.get(name)
        if key is None:
            self._problems.found.append(f"{self._problems.file}: {self._at(name)}: {sentence}")
        else:
            self._problems.add(key[1], f"{self._at(name)}: {sentence}")

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there."""
        node = self._take(name, required=default is None)
        if node is None:
            return default or ""
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.problem(name, f"found {_shown(node)}; expected a text")
            return default or ""
        return str(node.value)

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of the texts of ``allowed``."""
        found = self.text(name, default)
        if name in self and found not in allowed:
            self.problem(name, f"found {found[:_SHOWN]!r}; expected one of {', '.join(allowed)}")
        return found if found in allowed else (default or allowed[0])

    def number(self, name: str, default: float, least: float = -math.inf, most: float = math.inf) -> float:
        """A number within bounds."""
        node = self._take(name)
        if node is None:
            return default
        value = _number(node)
        if value is None or not least <= value <= most:
            self.problem(name, f"found {_shown(node)}; expected a number from {least:g} to {most:g}")
            return default
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        found = self.number(name, default, least, most)
        if found != int(found):
            self.problem(name, f"found {found:g}; expected a whole number")
            return default
        return int(found)

    def flag(self, name: str, default: bool = False) -> bool:
        """``true`` or ``false``."""
        node = self._take(name)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.value not in ("true", "false"):
            self.problem(name, f"found {_shown(node)}; expected true or false")
            return default
        return bool(node.value == "true")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none where it is not there."""
        return tuple(self._list(name, lambda node: str(node.value) if isinstance(node, yaml.ScalarNode) else None))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers; none where it is not there."""
        return tuple(self._list(name, _number))

    def section(self, name: str) -> Section:
        """A mapping inside this one; an empty one where it is not there."""
        return Section(self._take(name), self._at(name), self._problems)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """All values as mappings, by names that the author of the file chose."""
        for name in list(self._nodes):
            yield name, self.section(name)

    def done(self) -> None:
        """No more is asked for: all else is a problem."""
        for name, (key, _) in self._nodes.items():
            if name not in self._known:
                near = difflib.get_close_matches(name, sorted(self._known), n=1)
                allowed = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(sorted(self._known))}"
                self._problems.add(key, f"{self._at(name[:_SHOWN])} is not known; {allowed}")

    def _take(self, name: str, *, required: bool = False) -> yaml.Node | None:
        self._known.add(name)
        if name in self._nodes:
            return self._nodes[name][1]
        if required:
            self.problem(name, "is missing; add it")
        return None

    def _list(self, name: str, read: Callable[[yaml.Node], T | None]) -> Iterator[T]:
        node = self._take(name)
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            self.problem(name, f"found {_shown(node)}; expected a list")
            return
        for entry in node.value:
            value = read(entry)
            if value is None:
                self._problems.add(entry, f"{self._at(name)}: found {_shown(entry)}; expected another kind of entry")
            else:
                yield value

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def read_file(path: Path, read: Callable[[Section], T]) -> T:
    """Read ``path`` through ``read``.

    Raises:
        BadInput: with every problem, each with file and line.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BadInput(f"{path} is larger than {_LARGEST:,} bytes; split it")
        return parse(content.decode(), str(path), read)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8; save it as UTF-8") from None


def parse(text: str, name: str, read: Callable[[Section], T]) -> T:
    """The same for a text; ``name`` is the file's name for messages."""
    problems = Problems(name)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise BadInput(f"{name} has an alias (*name); write the value out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput(f"{name}:{line}: is not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise BadInput(f"{name} is not YAML: {type(error).__name__}") from None
    section = Section(node, "", problems)
    result = read(section)
    section.done()
    if problems.found:
        raise BadInput(listed(problems.found))
    return result


def _number(node: yaml.Node) -> float | None:
    if not isinstance(node, yaml.ScalarNode) or node.style in ("'", '"'):
        return None
    try:
        value = float(node.value.replace("_", "x"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(str(node.value)[:_SHOWN]) if node.value else "nothing"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
