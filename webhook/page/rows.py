"""A record as a line of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.chain import Entry
from audit.record_columns import columns, rules
from audit.selection import version_of

_ORDER = {"deny": 0, "warn": 1, "audit": 2}


@dataclass(frozen=True, slots=True)
class Row:
    """What a list shows of a record. ``said`` is its gravest finding, or else why it ended so."""

    id: str
    time: str
    verdict: str
    operation: str
    kind: str
    namespace: str
    name: str
    model: str
    version: str
    user: str
    rules: tuple[str, ...]
    said: str
    dry_run: bool


def row(record: Mapping[str, Any]) -> Row:
    """The line of one record; whatever is not there, or is not what it should be, is empty."""
    _, uid, namespace, model, user, verdict = columns(dict(record))
    return Row(
        id=text(record, "id") or uid,
        time=text(record, "time"),
        verdict=verdict,
        operation=text(record, "operation"),
        kind=text(record, "kind") + (f"/{text(record, 'subresource')}" if text(record, "subresource") else ""),
        namespace=namespace,
        name=text(record, "name"),
        model=model,
        version=version_of(record),
        user=user,
        rules=tuple(sorted(rules(dict(record)))),
        said=_said(record),
        dry_run=record.get("dry_run") is True,
    )


def rows(entries: Iterable[Entry]) -> list[Row]:
    """The lines of a list."""
    return [row(entry.value) for entry in entries]


def _said(record: Mapping[str, Any]) -> str:
    found = findings(record)
    if found:
        return text(found[0], "message")
    for name in ("error", "ignored"):
        if text(record, name):
            return text(record, name)
    changed = [text(one, "mutator") for one in dicts(record.get("injections")) if not one.get("preview")]
    return f"injected by {', '.join(changed)}" if changed else ""


def findings(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The findings, the gravest first."""
    return sorted(dicts(record.get("findings")), key=lambda one: _ORDER.get(text(one, "action"), 3))


def text(about: Mapping[str, Any], name: str) -> str:
    """A text of a record; "" for what is none."""
    value = about.get(name)
    return value if isinstance(value, str) else ""


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none for what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def words(value: object) -> list[str]:
    """The texts of a list."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def texts(about: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Texts of a record, each "" where it is none."""
    return {name: text(about, name) for name in names}


def part(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside of one; empty for what is none."""
    value = about.get(name)
    return value if isinstance(value, dict) else {}
