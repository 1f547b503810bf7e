"""``AuthoredField``: one field of the author's object with its path, read with its type checked.

Null stands for "absent", as in the API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from admission.pod_schema import MalformedObjectError

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_BRACKETS = re.compile(r"\[[^\]]*\]")
_NAMES = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}

AUTHORS_MAPS = frozenset({"labels", "annotations", "nodeSelector", "requests", "limits"})
"""Fields whose keys are the author's: these stand in brackets in a path."""


def below(path: str, key: str) -> str:
    """The path of member ``key`` of the object at ``path``."""
    if path.rpartition(".")[2] in AUTHORS_MAPS or not _WORD.fullmatch(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


@dataclass(frozen=True, slots=True)
class AuthoredField:
    """The field ``path`` of an object of this ``kind``; ``value`` is None where it is absent."""

    value: Any
    path: str
    kind: str

    @property
    def present(self) -> bool:
        """Whether the author wrote anything here."""
        return self.value is not None

    def __getitem__(self, key: str) -> AuthoredField:
        return AuthoredField(self.object().get(key), below(self.path, key), self.kind)

    def at(self, path: str) -> AuthoredField:
        """The field at a dotted path below this one."""
        found = self
        for key in path.split("."):
            found = found[key]
        return found

    def object(self) -> Mapping[str, Any]:
        """The object here; an empty one where there is none."""
        if self.value is None:
            return {}
        if not _is_object(self.value):
            raise self.malformed("an object")
        return self.value

    def members(self) -> Iterator[tuple[str, AuthoredField]]:
        """Keys of the object here and their fields."""
        for key in self.object():
            yield key, self[key]

    def items(self) -> list[AuthoredField]:
        """Entries of the list here."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.malformed("a list")
        return [AuthoredField(one, f"{self.path}[{index}]", self.kind) for index, one in enumerate(self.value)]

    def text(self) -> str:
        """The string here; empty where there is none."""
        if self.value is None:
            return ""
        if not isinstance(self.value, str):
            raise self.malformed("a string")
        return self.value

    def flag(self) -> bool:
        """The boolean here; False where there is none."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.malformed("a boolean")
        return self.value

    def number(self) -> int:
        """The whole number here; 0 where there is none."""
        if self.value is None:
            return 0
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.malformed("a whole number")
        return self.value

    def texts(self) -> Iterator[tuple[str, AuthoredField]]:
        """Keys of the object here and their fields, each of which is a string."""
        for key, one in self.members():
            if not isinstance(one.value, str):
                raise one.malformed("a string")
            yield key, one

    def malformed(self, wanted: str) -> MalformedObjectError:
        """The error that says that something else is wanted here."""
        found = "null" if self.value is None else _NAMES.get(type(self.value), type(self.value).__name__)
        explained = ".".join(part for part in (self.kind, _BRACKETS.sub("", self.path)) if part)
        return MalformedObjectError(
            f"{self.path or 'object'}: should be {wanted}, found {found}; see `kubectl explain {explained}`"
        )


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)
