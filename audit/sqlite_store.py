"""The store in one SQLite file, as it is written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import orjson

from audit.chain import START, Entry
from audit.checkpoint import SCHEMA, Reach
from audit.compression import DICTIONARY, Codec
from audit.record_columns import columns, rules
from audit.sqlite_schema import migrate
from audit.store import StoreError

_BUSY_SECONDS = 1.0
"""How long to wait for another process' lock; meanwhile records queue."""
_PRUNED_AT_ONCE = 5000
"""Records that one transaction removes: a long one would hold up those that are written."""


class SqliteStore:
    """Writes records; makes the file and its folder where they are missing.

    Every batch is on the disk when ``append`` returns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._codec = Codec()
        self._replicas: dict[str, int] = {}
        with _sentences(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # SQLite's other files get the same rights
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._file = _identity(path)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        migrate(self._db)
        self._db.execute("INSERT OR IGNORE INTO dictionaries (bytes) VALUES (?)", (DICTIONARY,))
        (self._dictionary,) = self._db.execute(
            "SELECT number FROM dictionaries WHERE bytes = ?", (DICTIONARY,)
        ).fetchone()

    def last_hash(self) -> str:
        """The hash of the record that was written last; ``START`` without any."""
        with _sentences(self._path):
            row = self._db.execute("SELECT body, dictionary FROM records ORDER BY number DESC LIMIT 1").fetchone()
            if row is None:
                return START
            (dictionary,) = self._db.execute("SELECT bytes FROM dictionaries WHERE number = ?", row[1:]).fetchone()
        try:
            return str(orjson.loads(Codec(dictionary).expand(row[0]))["hash"])
        except (ValueError, KeyError, TypeError):
            return START

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep all or none."""
        with self._transaction():
            for entry in entries:
                if entry.value.get("schema") == SCHEMA:
                    self._put_checkpoint(entry)
                else:
                    self._put_record(entry)

    def _put_record(self, entry: Entry) -> None:
        record = entry.value
        found = columns(record)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO records (replica, sequence, time, uid, namespace, model, user, verdict,"
            " dictionary, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._replica(record["replica"]),
                record["sequence"],
                *found,
                self._dictionary,
                self._codec.compress(entry.line),
            ),
        )
        if cursor.rowcount:
            number = cursor.lastrowid
            self._db.executemany(
                "INSERT INTO findings (rule, time, record) VALUES (?, ?, ?)",
                [(rule, found[0], number) for rule in rules(record)],
            )

    def _put_checkpoint(self, entry: Entry) -> None:
        value = entry.value
        self._db.execute(
            "INSERT OR IGNORE INTO checkpoints (replica, sequence, reason, body) VALUES (?, ?, ?, ?)",
            (self._replica(value["replica"]), value["sequence"], value["reason"], entry.line),
        )

    def _replica(self, name: str) -> int:
        if name not in self._replicas:
            self._db.execute("INSERT OR IGNORE INTO replicas (name) VALUES (?)", (name,))
            (self._replicas[name],) = self._db.execute("SELECT number FROM replicas WHERE name = ?", (name,)).fetchone()
        return self._replicas[name]

    def prune(self, before: datetime, covering: Callable[[Reach], Entry]) -> int:
        """Remove older records. Only the beginning of a chain goes, never a piece of its middle."""
        limit = int(before.timestamp() * 1000)
        removed = 0
        with _sentences(self._path):
            replicas = self._db.execute("SELECT number, name FROM replicas").fetchall()
        for number, name in replicas:
            while found := self._prune_some(number, name, limit, covering):
                removed += found
        return removed

    def _prune_some(self, replica: int, name: str, limit: int, covering: Callable[[Reach], Entry]) -> int:
        with self._transaction():
            (young,) = self._db.execute(
                "SELECT min(sequence) FROM records WHERE replica = ? AND time >= ?", (replica, limit)
            ).fetchone()
            old = self._db.execute(
                "SELECT number, sequence, body, dictionary FROM records WHERE replica = ?"
                " AND (? IS NULL OR sequence < ?) ORDER BY sequence LIMIT ?",
                (replica, young, young, _PRUNED_AT_ONCE),
            ).fetchall()
            if not old:
                return 0
            _, sequence, body, dictionary = old[-1]
            (used,) = self._db.execute("SELECT bytes FROM dictionaries WHERE number = ?", (dictionary,)).fetchone()
            try:
                last = str(orjson.loads(Codec(used).expand(body))["hash"])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{self._path}: record {sequence} of {name} is damaged and not removed") from error
            self._db.execute("DELETE FROM checkpoints WHERE replica = ? AND sequence <= ?", (replica, sequence))
            self._put_checkpoint(covering(Reach(name, sequence, last)))
            numbers = [(one[0],) for one in old]
            self._db.executemany("DELETE FROM findings WHERE record = ?", numbers)
            self._db.executemany("DELETE FROM records WHERE number = ?", numbers)
        return len(old)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _sentences(self._path):
            if _identity(self._path) != self._file:
                # SQLite would go on writing to a file that nobody will ever see again.
                raise StoreError(f"{self._path} was removed or replaced")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._replicas.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """End."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA optimize")
        with contextlib.suppress(sqlite3.Error):
            self._db.close()


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path} cannot be written: {error}") from error
