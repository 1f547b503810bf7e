"""Records in a database, whichever it is: the questions in SQL that both SQLite and PostgreSQL take."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from audit.chain import Entry
from audit.compression import Codec
from audit.record_columns import columns, rules
from audit.records import count, parsed, time_text
from audit.selection import Cursor, Page, Selection, Statistics
from audit.verification import Damaged

SCANNED = 10_000
"""So many records are read for one page; who asks further goes on from there."""
Query = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a statement, where ``?`` stands for each value."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in its chain: its neighbours, and the first checkpoint that covers it."""

    before: Entry | None
    after: Entry | None
    checkpoint: Entry | None


class SqlRecords:
    """``query`` may read all rows at once; ``stream`` reads them while they are taken.

    ``joined`` is the database's aggregate that puts texts together; ``dictionaries`` are those
    that records were compressed with, by number.
    """

    whole = True

    def __init__(self, query: Query, stream: Query, joined: str, dictionaries: Mapping[int, bytes]) -> None:
        self._query = query
        self._stream = stream
        self._joined = joined
        self._codecs = {number: Codec(used) for number, used in dictionaries.items()}

    def give_up_after(self, seconds: float) -> None:
        """Let what is read from now on take so long at most, where the database was not told before."""

    def close(self) -> None:
        """Let go of the store."""

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest first."""
        return list(self._found(selection, limit))

    def _found(self, selection: Selection, limit: int) -> Iterator[Entry]:
        where, values = _conditions(selection)
        order = "found.time DESC, found.record DESC" if selection.rule else "r.time DESC, r.number DESC"
        statement = f"SELECT r.body, r.dictionary {where} ORDER BY {order}"
        if selection.looks_inside:
            rows = self._stream(statement, values)
        else:
            rows = self._query(f"{statement} LIMIT ?", [*values, limit])
        for row in rows:
            entry = self._entry(*row)
            if isinstance(entry, Entry) and selection.has_unfiled(entry):
                yield entry
                limit -= 1
                if limit <= 0:
                    return

    def page(self, selection: Selection, limit: int, before: Cursor | None = None, scan: int = SCANNED) -> Page:
        """By key. Where records must be read, at most ``scan`` of them are."""
        asked = list(selection.by_namespace())
        if not selection.looks_inside:
            scan = limit
        at_once = max(_FEWEST_ROWS, min(scan + 1, _MOST_ROWS) // max(1, len(asked) // 2))
        rows = heapq.merge(
            *(self._newest_first(one, before, at_once) for one in asked), key=lambda row: row[0], reverse=True
        )
        found: list[tuple[Cursor, Entry]] = []
        last, looked_at = None, 0
        for place, body, dictionary in islice(rows, scan):
            entry = self._entry(body, dictionary)
            looked_at += 1
            last = place
            if isinstance(entry, Entry) and selection.has_unfiled(entry):
                found.append((place, entry))
                if len(found) == limit:
                    break
        more = next(rows, None) is not None
        return Page(tuple(entry for _, entry in found), last if more else None, looked_at)

    def _newest_first(
        self, selection: Selection, before: Cursor | None, at_once: int
    ) -> Iterator[tuple[Cursor, bytes, int]]:
        """Rows by key, some at a time, so that a cursor of the database need not stay open."""
        where, values = _conditions(selection)
        time, number = ("found.time", "found.record") if selection.rule else ("r.time", "r.number")
        joint = "AND" if values else "WHERE"
        while True:
            older, bounds = "", [*values]
            if before is not None:
                # The first condition is for the planner: not every index has the number.
                older = f"{joint} {time} <= ? AND ({time}, {number}) < (?, ?)"
                bounds += [before.time, before.time, before.number]
            rows = list(
                self._query(
                    f"SELECT {time}, {number}, r.body, r.dictionary {where} {older}"
                    f" ORDER BY {time} DESC, {number} DESC LIMIT ?",
                    [*bounds, at_once],
                )
            )
            for when, which, body, dictionary in rows:
                yield Cursor(when, which), body, dictionary
            if len(rows) < at_once:
                return
            before = Cursor(rows[-1][0], rows[-1][1])

    def namespaces(self, at_most: int) -> list[str]:
        """The namespaces that records are of, by name; jumps through the index from one to the next."""
        rows = self._query(
            "WITH RECURSIVE found(name) AS (SELECT min(namespace) FROM records UNION ALL"
            " SELECT (SELECT min(namespace) FROM records WHERE namespace > found.name) FROM found"
            " WHERE found.name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL LIMIT ?",
            [at_most],
        )
        return [name for (name,) in rows]

    def most(self, selection: Selection, column: str, limit: int) -> dict[str, int]:
        """Counts by ``namespace``, ``model``, ``user``, ``verdict`` or ``rule``, most first."""
        if column == "rule" and selection == Selection(since=selection.since, until=selection.until):
            # The table of findings has the time too: records need not be touched.
            where, values = _within("f.time", selection)
            source, name = f"FROM findings f {where}", "f.rule"
        else:
            source, values = _conditions(selection)
            name = f"r.{column}"
            if column == "rule":
                source, name = _with_findings(source), "f.rule"
        given = f"{'AND' if values else 'WHERE'} {name} <> ''"
        return _counted(
            self._query(
                f"SELECT {name}, count(*) {source} {given} GROUP BY {name} ORDER BY 2 DESC, 1 LIMIT ?", [*values, limit]
            )
        )

    def by_rule_and_verdict(self, selection: Selection) -> dict[str, dict[str, int]]:
        """How many records each rule had something to say of, by how they ended."""
        where, values = _conditions(selection)
        joined = _with_findings(where)
        found: dict[str, dict[str, int]] = {}
        for rule, verdict, number in self._query(
            f"SELECT f.rule, r.verdict, count(*) {joined} GROUP BY f.rule, r.verdict", values
        ):
            found.setdefault(rule, {})[verdict] = number
        return found

    def timeline(self, selection: Selection, first: int, step: int, steps: int) -> dict[str, list[int]]:
        """How many records ended how, in ``steps`` spans of ``step`` milliseconds from ``first`` on."""
        found = {verdict: [0] * steps for verdict in VERDICTS}
        # An index has verdicts with their times, so that one verdict after another is counted without its records.
        each = selection.namespaces is None and not selection.namespace
        asked = [replace(selection, verdict=one) for one in VERDICTS] if each and not selection.verdict else [selection]
        for one in asked:
            where, values = _conditions(one)
            joint = "AND" if values else "WHERE"
            rows = self._query(
                f"SELECT r.verdict, (r.time - {int(first)}) / {int(step)} AS span, count(*) {where}"
                f" {joint} r.time >= ? AND r.time < ? GROUP BY r.verdict, span",
                [*values, first, first + step * steps],
            )
            for verdict, span, number in rows:
                if verdict in found:
                    found[verdict][span] += number
        return found

    def place(self, entry: Entry) -> Place:
        """What stands around a record."""
        replica, sequence = entry.value.get("replica"), entry.value.get("sequence")
        if not isinstance(replica, str) or not isinstance(sequence, int):
            return Place(None, None, None)
        around: dict[int, Entry] = {}
        for number, body, dictionary in self._query(
            "SELECT sequence, body, dictionary FROM records WHERE sequence IN (?, ?)"
            " AND replica = (SELECT number FROM replicas WHERE name = ?)",
            [sequence - 1, sequence + 1, replica],
        ):
            found = self._entry(body, dictionary)
            if isinstance(found, Entry):
                around[number] = found
        rows = self._query(
            "SELECT body FROM checkpoints WHERE replica = (SELECT number FROM replicas WHERE name = ?)"
            " AND sequence >= ? ORDER BY sequence LIMIT 1",
            [replica, sequence],
        )
        covering = next((parsed(bytes(body)) for (body,) in rows), None)
        return Place(around.get(sequence - 1), around.get(sequence + 1), covering)

    def find(self, identifier: str) -> list[Entry]:
        """By ``id``, which names run and number, or by the API server's ``uid``."""
        run, _, number = identifier.rpartition("-")
        rows = list(
            self._query("SELECT body, dictionary FROM records WHERE uid = ? ORDER BY time", [identifier[:_LONGEST_ID]])
        )
        if run and number.isascii() and number.isdigit() and len(number) < 18:
            rows += self._query(
                "SELECT body, dictionary FROM records WHERE sequence = ? AND replica IN"
                " (SELECT number FROM replicas WHERE substr(name, length(name) - ?) = ?)",
                [int(number), len(run), f"/{run}"],
            )
        return [entry for entry in (self._entry(*row) for row in rows) if isinstance(entry, Entry)]

    def statistics(self, selection: Selection) -> Statistics:
        """Counted by the database, unless a text is looked for."""
        if selection.looks_inside:
            return count(self._found(selection, limit=2**62))
        where, values = _conditions(selection)
        ((total, first, last),) = self._query(f"SELECT count(*), min(r.time), max(r.time) {where}", values)
        counts: dict[str, dict[str, int]] = {}
        for name in ("verdict", "namespace", "model", "user"):
            counts[name] = _counted(
                self._query(
                    f"SELECT r.{name}, count(*) {where} GROUP BY r.{name} HAVING r.{name} <> ''"
                    " ORDER BY 2 DESC, 1 LIMIT 10",
                    values,
                )
            )
        joined = _with_findings(where)
        counts["rule"] = _counted(
            self._query(f"SELECT f.rule, count(*) {joined} GROUP BY f.rule ORDER BY 2 DESC, 1 LIMIT 10", values)
        )
        return Statistics(total, time_text(first), time_text(last), counts)

    def entries(self) -> Iterator[Entry | Damaged]:
        """Checkpoints first, then each chain; a row that says something else than its record is damaged."""
        for (body,) in self._stream("SELECT body FROM checkpoints ORDER BY replica, sequence", ()):
            yield parsed(bytes(body)) or Damaged("a checkpoint", "is no JSON object")
        rows = self._stream(_EVERY_RECORD.replace("JOINED", self._joined), ())
        for replica, sequence, *found, body, dictionary, named in rows:
            entry = self._entry(body, dictionary)
            place = f"record {sequence} of {replica}"
            if isinstance(entry, Damaged):
                yield Damaged(place, entry.problem, replica)
            elif (entry.value.get("replica"), entry.value.get("sequence"), *columns(entry.value)) != (
                replica,
                sequence,
                *found,
            ) or sorted((named or "").split(" ")) != sorted(rules(entry.value) or [""]):
                yield Damaged(place, "is filed under something else than it says", replica)
            else:
                yield entry

    def _entry(self, body: bytes, dictionary: int) -> Entry | Damaged:
        codec = self._codecs.get(dictionary)
        try:
            line = codec.expand(bytes(body)) if codec is not None else b""
        except (ValueError, TypeError):
            line = b""
        return parsed(line) or Damaged("a record", "cannot be read: its bytes are damaged")


VERDICTS = ("allowed", "mutated", "warned", "denied", "ignored", "error")
_LONGEST_ID = 600
_FEWEST_ROWS, _MOST_ROWS = 8, 1000
_EVERY_RECORD = """
    SELECT p.name, r.sequence, r.time, r.uid, r.namespace, r.model, r.user, r.verdict, r.body, r.dictionary,
        (SELECT JOINED(f.rule, ' ') FROM findings f WHERE f.record = r.number AND f.time = r.time)
    FROM records r JOIN replicas p ON p.number = r.replica ORDER BY r.replica, r.sequence
"""
_SAME = "{0}.record = r.number AND {0}.time = r.time"
"""The time is in both tables, and tells PostgreSQL which partition to look into."""


def _counted(rows: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    return {name: number for name, number in rows}  # noqa: C416  # rows are of two, which no type says


def _with_findings(source: str) -> str:
    return source.replace("FROM records r", f"FROM records r JOIN findings f ON {_SAME.format('f')}", 1)


def _conditions(selection: Selection) -> tuple[str, list[Any]]:
    source = "FROM records r"
    parts: list[str] = []
    values: list[Any] = []
    time = "r.time"
    if selection.rule:
        source = f"FROM records r JOIN findings found ON {_SAME.format('found')}"
        time = "found.time"
        parts.append("found.rule = ?")
        values.append(selection.rule)
    for column in ("namespace", "model", "user", "verdict"):
        asked = getattr(selection, column)
        if asked:
            parts.append(f"r.{column} = ?")
            values.append(asked)
    if selection.namespaces is not None:
        seen = sorted(selection.namespaces)
        parts.append(f"r.namespace IN ({', '.join('?' * len(seen))})" if seen else "r.namespace = ? AND 1 = 0")
        values += seen or [""]
    bounds, bound = _within(time, selection)
    parts += [bounds.removeprefix("WHERE ")] if bounds else []
    values += bound
    return f"{source} WHERE {' AND '.join(parts)}" if parts else source, values


def _within(time: str, selection: Selection) -> tuple[str, list[Any]]:
    parts, values = [], []
    for sign, bound in ((">=", selection.since), ("<", selection.until)):
        if bound is not None:
            parts.append(f"{time} {sign} ?")
            values.append(int(bound.timestamp() * 1000))
    return f"WHERE {' AND '.join(parts)}" if parts else "", values
