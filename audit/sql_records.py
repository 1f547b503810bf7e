"""Records in a database, whichever it is: the questions in SQL that both SQLite and PostgreSQL take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from audit.chain import Entry
from audit.compression import Codec
from audit.record_columns import columns, rules
from audit.records import count, parsed, time_text
from audit.selection import Selection, Statistics
from audit.verification import Damaged

Query = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]
"""Runs a statement, where ``?`` stands for each value."""


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

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest first."""
        return list(self._found(selection, limit))

    def _found(self, selection: Selection, limit: int) -> Iterator[Entry]:
        where, values = _conditions(selection)
        order = "found.time DESC, found.record DESC" if selection.rule else "r.time DESC, r.number DESC"
        statement = f"SELECT r.body, r.dictionary {where} ORDER BY {order}"
        if selection.text:
            rows = self._stream(statement, values)
        else:
            rows = self._query(f"{statement} LIMIT ?", [*values, limit])
        for row in rows:
            entry = self._entry(*row)
            if isinstance(entry, Entry) and selection.has_text(entry.line):
                yield entry
                limit -= 1
                if limit <= 0:
                    return

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
        if selection.text:
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
        joined = where.replace("FROM records r", f"FROM records r JOIN findings f ON {_SAME.format('f')}", 1)
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


_LONGEST_ID = 600
_EVERY_RECORD = """
    SELECT p.name, r.sequence, r.time, r.uid, r.namespace, r.model, r.user, r.verdict, r.body, r.dictionary,
        (SELECT JOINED(f.rule, ' ') FROM findings f WHERE f.record = r.number AND f.time = r.time)
    FROM records r JOIN replicas p ON p.number = r.replica ORDER BY r.replica, r.sequence
"""
_SAME = "{0}.record = r.number AND {0}.time = r.time"
"""The time is in both tables, and tells PostgreSQL which partition to look into."""


def _counted(rows: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    return {name: number for name, number in rows}  # noqa: C416  # rows are of two, which no type says


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
    if selection.since is not None:
        parts.append(f"{time} >= ?")
        values.append(int(selection.since.timestamp() * 1000))
    if selection.until is not None:
        parts.append(f"{time} < ?")
        values.append(int(selection.until.timestamp() * 1000))
    return f"{source} WHERE {' AND '.join(parts)}" if parts else source, values
