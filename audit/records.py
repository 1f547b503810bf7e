"""Records as they are read: from a SQLite file, or from JSON lines."""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from audit.chain import Entry
from audit.checkpoint import SCHEMA as CHECKPOINT
from audit.compression import Codec
from audit.record import SCHEMA as RECORD
from audit.selection import Selection, Statistics, most_first
from audit.sqlite_schema import VERSION, version_of
from audit.sqlite_store import columns, rules
from audit.verification import Damaged

_SQLITE = b"SQLite format 3\x00"
_LINES_AT_ONCE = 500


class RecordsError(ValueError):
    """There is nothing to read there; the text is a sentence."""


class Records(Protocol):
    """What is asked of records, wherever they are."""

    whole: bool
    """Whether this is all that there ever was, and not a piece of a log."""

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest records that were asked for, newest first."""

    def find(self, identifier: str) -> list[Entry]:
        """Records with this ``id`` or ``uid``."""

    def statistics(self, selection: Selection) -> Statistics:
        """Counts of the records that were asked for."""

    def entries(self) -> Iterator[Entry | Damaged]:
        """Everything, with checkpoints, each chain in its order."""


class SqliteRecords:
    """A file of ``SqliteStore``; another process may be writing to it. Closed with ``close``."""

    whole = True

    def __init__(self, path: Path) -> None:
        self._path = path
        # Where the folder cannot be written, only a file that nobody writes to can be read.
        for options in ("mode=ro", "mode=ro&immutable=1"):
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)
            try:
                found = version_of(self._db)
                self._codecs = {
                    number: Codec(used) for number, used in self._db.execute("SELECT number, bytes FROM dictionaries")
                }
                break
            except sqlite3.OperationalError as error:
                self._db.close()
                problem = str(error)
        else:
            raise RecordsError(f"{path} cannot be read as a file of records: {problem}")
        if found > VERSION:
            raise RecordsError(f"{path} has version {found} and this program knows {VERSION} at most; use a newer one")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def search(self, selection: Selection, limit: int) -> list[Entry]:
        """The newest first."""
        where, values = _conditions(selection)
        order = "found.time DESC, found.record DESC" if selection.rule else "r.time DESC, r.number DESC"
        rows = self._db.execute(f"SELECT r.body, r.dictionary {where} ORDER BY {order}", values)
        entries: list[Entry] = []
        for body, dictionary in rows:
            entry = self._entry(body, dictionary)
            if isinstance(entry, Entry) and selection.has_text(entry.line):
                entries.append(entry)
                if len(entries) >= limit:
                    break
        return entries

    def find(self, identifier: str) -> list[Entry]:
        """By ``id``, which names run and number, or by the API server's ``uid``."""
        run, _, number = identifier.rpartition("-")
        rows = self._db.execute("SELECT body, dictionary FROM records WHERE uid = ? ORDER BY time", (identifier,))
        found = rows.fetchall()
        if run and number.isascii() and number.isdigit() and len(number) < 18:
            found += self._db.execute(
                "SELECT body, dictionary FROM records WHERE sequence = :number AND replica IN"
                " (SELECT number FROM replicas WHERE substr(name, -length(:run) - 1) = '/' || :run)",
                {"run": run, "number": int(number)},
            ).fetchall()
        return [entry for entry in (self._entry(*row) for row in found) if isinstance(entry, Entry)]

    def statistics(self, selection: Selection) -> Statistics:
        """Counted by the database, unless a text is looked for."""
        if selection.text:
            return count(self.search(selection, limit=2**62))
        where, values = _conditions(selection)
        total, first, last = self._db.execute(f"SELECT count(*), min(r.time), max(r.time) {where}", values).fetchone()
        counts: dict[str, dict[str, int]] = {}
        for name in ("verdict", "namespace", "model", "user"):
            counts[name] = dict(
                self._db.execute(
                    f"SELECT r.{name}, count(*) {where} GROUP BY r.{name} HAVING r.{name} <> ''"
                    " ORDER BY 2 DESC, 1 LIMIT 10",
                    values,
                )
            )
        joined = where.replace("FROM records r", "FROM records r JOIN findings f ON f.record = r.number", 1)
        counts["rule"] = dict(
            self._db.execute(f"SELECT f.rule, count(*) {joined} GROUP BY f.rule ORDER BY 2 DESC, 1 LIMIT 10", values)
        )
        return Statistics(total, _time(first), _time(last), counts)

    def entries(self) -> Iterator[Entry | Damaged]:
        """Checkpoints first, then each chain; a row that says something else than its record is damaged."""
        for (body,) in self._db.execute("SELECT body FROM checkpoints ORDER BY replica, sequence"):
            yield _parsed(bytes(body)) or Damaged("a checkpoint", "is no JSON object")
        rows = self._db.execute(
            "SELECT p.name, r.sequence, r.time, r.uid, r.namespace, r.model, r.user, r.verdict, r.body, r.dictionary"
            ", (SELECT group_concat(f.rule, ' ') FROM findings f WHERE f.record = r.number)"
            " FROM records r JOIN replicas p ON p.number = r.replica ORDER BY r.replica, r.sequence"
        )
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
            line = codec.expand(body) if codec is not None else b""
        except (ValueError, TypeError):
            line = b""
        return _parsed(line) or Damaged("a record", "cannot be read: its bytes are damaged")


def _conditions(selection: Selection) -> tuple[str, list[Any]]:
    source = "FROM records r"
    parts: list[str] = []
    values: list[Any] = []
    time = "r.time"
    if selection.rule:
        source = "FROM records r JOIN findings found ON found.record = r.number"
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

    def find(self, identifier: str) -> list[Entry]:
        """By ``id`` or ``uid``."""
        return [one for one in self._records(Selection()) if identifier in (one.value.get("id"), one.value.get("uid"))]

    def statistics(self, selection: Selection) -> Statistics:
        """Counted one by one."""
        return count(self._records(selection))

    def entries(self) -> Iterator[Entry | Damaged]:
        """Everything of ours in the order of the lines."""
        for number, line in enumerate(self._lines, 1):
            entry = _parsed(line.strip())
            if entry is not None and entry.value.get("schema") in (RECORD, CHECKPOINT):
                yield entry
            elif b'"schema":"tidewaiter.dev/' in line:
                yield Damaged(f"line {number}", "is no record any more: it cannot be read as JSON of a known schema")

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
    return Statistics(total, _time(times[0] if times else None), _time(times[-1] if times else None), counts)


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite file; raises ``RecordsError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise RecordsError(f"records {path} cannot be read: {error.strerror}") from None


def _parsed(line: bytes) -> Entry | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return Entry(value, line) if isinstance(value, dict) else None
