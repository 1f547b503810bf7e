"""Which records are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audit.chain import Entry
from audit.record_columns import columns, rules


@dataclass(frozen=True, slots=True)
class Selection:
    """What a record must have; "" and None ask for nothing. Times are aware.

    ``text`` may stand anywhere in the record, in any case of letters. ``namespaces`` are those
    that the reader may see: a record of none of them is not there, whatever else is asked for.
    """

    namespace: str = ""
    model: str = ""
    user: str = ""
    rule: str = ""
    verdict: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    version: str = ""
    namespaces: frozenset[str] | None = None

    def has(self, entry: Entry) -> bool:
        """Whether the record is asked for."""
        time, _, namespace, model, user, verdict = columns(entry.value)
        return (
            self._named(((self.namespace, namespace), (self.model, model), (self.user, user), (self.verdict, verdict)))
            and (self.since is None or time >= int(self.since.timestamp() * 1000))
            and (self.until is None or time < int(self.until.timestamp() * 1000))
            and (not self.rule or self.rule in rules(entry.value))
            and (self.namespaces is None or namespace in self.namespaces)
            and self.has_unfiled(entry)
        )

    @property
    def looks_inside(self) -> bool:
        """Whether records must be read to tell: stores file them under neither text nor version."""
        return bool(self.text or self.version)

    def has_unfiled(self, entry: Entry) -> bool:
        """Whether the record has what stores do not file it under."""
        return (not self.version or self.version == version_of(entry.value)) and self.has_text(entry.line)

    def by_namespace(self) -> Iterator[Selection]:
        """The same as selections of one namespace each, or as one of no namespace in particular."""
        if self.namespaces is None:
            yield self
            return
        for one in sorted(self.namespaces):
            if one and (not self.namespace or self.namespace == one):
                yield replace(self, namespace=one, namespaces=None)
        if "" in self.namespaces and not self.namespace:
            yield replace(self, namespaces=frozenset([""]))

    def has_text(self, line: bytes) -> bool:
        """Whether the text stands in a record's line."""
        return not self.text or self.text.casefold() in line.decode("utf-8", "replace").casefold()

    @staticmethod
    def _named(pairs: Iterable[tuple[str, str]]) -> bool:
        return all(not asked or asked == found for asked, found in pairs)


def version_of(record: Mapping[str, Any]) -> str:
    """The version of the model that a record is about; "" where it says none."""
    for about in (record.get("model"), record.get("governance")):
        version = about.get("version") if isinstance(about, dict) else None
        if isinstance(version, str) and version:
            return version
    return ""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place among records in the order of their time and, within a millisecond, of their number."""

    time: int
    number: int


@dataclass(frozen=True, slots=True)
class Page:
    """Records, the newest first. ``following`` is the place after which older ones come; None at the end.

    Where records had to be read to find these, there may be fewer than were asked for and yet
    more to come: ``looked_at`` were read, back to ``following``.
    """

    entries: tuple[Entry, ...]
    following: Cursor | None
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many records there are, from when to when (the records' own times), and of what."""

    total: int
    first: str
    last: str
    counts: dict[str, dict[str, int]]
    """By verdict, namespace, model, user and rule: how many, most first."""


def most_first(counts: dict[str, int], at_most: int = 10) -> dict[str, int]:
    """The most frequent ones."""
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:at_most])
