"""Records as they are read: what is asked of them, and the answers of JSON lines."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import orjson

from audit.chain import Entry
from audit.checkpoint import SCHEMA as CHECKPOINT
from audit.record import SCHEMA as RECORD
from audit.record_columns import columns, rules
from audit.selection import Cursor, Page, Selection, Statistics, most_first
from audit.verification import Damaged


class RecordsError(ValueError):
    """There is nothing to read there; the text is a sentence."""


class Records(Protocol):
    """What is asked of records, wherever they are."""

    whole: bool
    """Whether this is all that there ever was, and not a piece of a log."""

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest records that were asked for, newest first."""

    def page(self, selection: Selection, limit: int, before: Cursor | None = None) -> Page:
        """The newest records that were asked for and are older than a place, newest first."""

    def find(self, identifier: str) -> list[Entry]:
        """Records with this ``id`` or ``uid``."""

    def statistics(self, selection: Selection) -> Statistics:
        """Counts of the records that were asked for."""

    def entries(self) -> Iterator[Entry | Damaged]:
        """Everything, with checkpoints, each chain in its order."""


class JsonLines:
    """Lines of standard output of ``tidewaiter serve``, or of ``tidewaiter audit export``.

    Lines of other programs in between are passed over. They are read once.
    """

    whole = False

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest first."""
        numbered = ((columns(entry.value)[0], number, entry) for number, entry in enumerate(self._records(selection)))
        return [entry for _, _, entry in heapq.nlargest(limit, numbered, key=lambda one: one[:2])]

    def page(self, selection: Selection, limit: int, before: Cursor | None = None) -> Page:
        """By key: a record's place is its time and the number of its line."""
        placed = (
            (Cursor(columns(entry.value)[0], number), entry)
            for number, entry in enumerate(self._records(Selection()), 1)
            if selection.has(entry)
        )
        older = (one for one in placed if before is None or one[0] < before)
        found = heapq.nlargest(limit + 1, older, key=lambda one: one[0])
        following = found[limit - 1][0] if len(found) > limit else None
        return Page(tuple(entry for _, entry in found[:limit]), following)

    def find(self, identifier: str) -> list[Entry]:
        """By ``id`` or ``uid``."""
        return [one for one in self._records(Selection()) if identifier in (one.value.get("id"), one.value.get("uid"))]

    def statistics(self, selection: Selection) -> Statistics:
        """Counted one by one."""
        return count(self._records(selection))

    def entries(self) -> Iterator[Entry | Damaged]:
        """Everything of ours in the order of the lines."""
        for number, line in enumerate(self._lines, 1):
            entry = parsed(line.strip())
            if entry is not None and entry.value.get("schema") in (RECORD, CHECKPOINT):
                yield entry
            elif b'"schema":"tidewaiter.dev/' in line:
                yield Damaged(f"line {number}", "is no record any more: it cannot be read as JSON of a known schema")

    def matching(self, selection: Selection) -> Iterator[Entry]:
        """What was asked for, in the order of the lines, each as soon as its line is read."""
        return self._records(selection)

    def _records(self, selection: Selection) -> Iterator[Entry]:
        for entry in self.entries():
            if isinstance(entry, Entry) and entry.value["schema"] == RECORD and selection.has(entry):
                yield entry


def count(entries: Iterable[Entry]) -> Statistics:
    """Statistics of records, one by one."""
    counters: dict[str, Counter[str]] = {name: Counter() for name in ("verdict", "namespace", "model", "user", "rule")}
    times: list[int] = []
    total = 0
    for entry in entries:
        time, _, namespace, model, user, verdict = columns(entry.value)
        total += 1
        times = [min([time, *times]), max([time, *times])]
        for name, found in (("verdict", verdict), ("namespace", namespace), ("model", model), ("user", user)):
            counters[name][found] += 1
        counters["rule"].update(rules(entry.value))
    counts = {name: most_first({key: value for key, value in found.items() if key}) for name, found in counters.items()}
    return Statistics(total, time_text(times[0] if times else None), time_text(times[-1] if times else None), counts)


def time_text(milliseconds: int | None) -> str:
    """A time as records have it; "" for None."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parsed(line: bytes) -> Entry | None:
    """The entry of a line; None for what is no JSON object."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return Entry(value, line) if isinstance(value, dict) else None
