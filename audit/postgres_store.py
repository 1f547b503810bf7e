"""The store in a PostgreSQL database, as any number of replicas write it at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import LiteralString

import orjson
import psycopg

from audit.chain import START, Entry
from audit.checkpoint import SCHEMA, Reach
from audit.compression import DICTIONARY, Codec
from audit.postgres_connection import connect, sentence
from audit.postgres_schema import drop_empty_partitions, make_partition, migrate, month_of
from audit.record_columns import columns, rules
from audit.store import StoreError

_STATEMENT_MILLISECONDS = 30_000
_PRUNED_AT_ONCE = 5000
_PRUNING = 0x7469646577616975
"""An advisory lock: one replica removes what is old, for all of them."""
# "DO UPDATE", since "DO NOTHING" answers no number of a row that another transaction has just made.
_NUMBERED: dict[str, tuple[LiteralString, LiteralString]] = {
    "replicas": (
        "SELECT number FROM replicas WHERE name = %s",
        """
        INSERT INTO replicas (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET name = excluded.name
        RETURNING number
        """,
    ),
    "dictionaries": (
        "SELECT number FROM dictionaries WHERE bytes = %s",
        """
        INSERT INTO dictionaries (bytes) VALUES (%s) ON CONFLICT (bytes) DO UPDATE SET bytes = excluded.bytes
        RETURNING number
        """,
    ),
}
_INSERT = """
    INSERT INTO records (replica, sequence, time, uid, namespace, model, "user", verdict, dictionary, body)
    SELECT replica, sequence, time, uid, namespace, model, person, verdict, %s, body FROM unnest(
        %s::int[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[]
    ) AS given (replica, sequence, time, uid, namespace, model, person, verdict, body)
    ON CONFLICT DO NOTHING RETURNING number, replica, sequence
"""
_INSERT_FINDINGS = """
    INSERT INTO findings (rule, time, record) SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[])
"""


class PostgresStore:
    """Writes records; makes the tables where they are missing.

    Every batch is committed when ``append`` returns, and one that is given a second time, since
    nobody heard of the first, is there once.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._url = url
        self._codec = Codec()
        self._replicas: dict[str, int] = {}
        self._months: set[str] = set()
        with self._sentences():
            self._db = connect(url, password_file, statement_milliseconds=_STATEMENT_MILLISECONDS)
            try:
                migrate(self._db)
                self._dictionary = self._number("dictionaries", DICTIONARY)
            except BaseException:
                self._db.close()
                raise

    def _number(self, table: str, value: str | bytes) -> int:
        """The number of a value in a table of values, put there where it is new."""
        select, insert = _NUMBERED[table]
        row = self._db.execute(select, [value]).fetchone() or self._db.execute(insert, [value]).fetchone()
        assert row is not None  # noqa: S101  # an insert with RETURNING answers a row
        return int(row[0])

    def last_hash(self) -> str:
        """The hash of the record that was written last, by whichever replica; ``START`` without any."""
        with self._sentences():
            row = self._db.execute(
                "SELECT body, bytes FROM records JOIN dictionaries ON dictionaries.number = dictionary"
                " ORDER BY time DESC, records.number DESC LIMIT 1"
            ).fetchone()
        if row is None:
            return START
        try:
            return str(orjson.loads(Codec(row[1]).expand(row[0]))["hash"])
        except (ValueError, KeyError, TypeError):
            return START

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep all or none."""
        records = [one for one in entries if one.value.get("schema") != SCHEMA]
        filed = [columns(one.value) for one in records]
        with self._sentences():
            for month in sorted({month_of(one[0]) for one in filed} - self._months):
                make_partition(self._db, month)
                self._months.add(month)
            with self._transaction():
                if records:
                    self._put_records(records, filed)
                for entry in entries:
                    if entry.value.get("schema") == SCHEMA:
                        self._put_checkpoint(entry)

    def _put_records(self, records: Sequence[Entry], filed: Sequence[tuple[int, str, str, str, str, str]]) -> None:
        replicas = [self._replica(one.value["replica"]) for one in records]
        sequences = [one.value["sequence"] for one in records]
        texts = [list(column) for column in zip(*filed, strict=True)]
        bodies = [self._codec.compress(one.line) for one in records]
        cursor = self._db.execute(_INSERT, [self._dictionary, replicas, sequences, *texts, bodies])
        numbers = {(replica, sequence): number for number, replica, sequence in cursor.fetchall()}
        found = [
            (rule, time[0], numbers[key])
            for key, time, entry in zip(zip(replicas, sequences, strict=True), filed, records, strict=True)
            if key in numbers
            for rule in sorted(rules(entry.value))
        ]
        if found:
            self._db.execute(_INSERT_FINDINGS, [list(column) for column in zip(*found, strict=True)])

    def _put_checkpoint(self, entry: Entry) -> None:
        value = entry.value
        self._db.execute(
            "INSERT INTO checkpoints (replica, sequence, reason, body) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [self._replica(value["replica"]), value["sequence"], value["reason"], entry.line],
        )

    def _replica(self, name: str) -> int:
        if name not in self._replicas:
            self._replicas[name] = self._number("replicas", name)
        return self._replicas[name]

    def prune(self, before: datetime, covering: Callable[[Reach], Entry]) -> int:
        """Remove older records. Only the beginning of a chain goes, never a piece of its middle."""
        removed = 0
        with self._sentences():
            make_partition(self._db, month_of(int((datetime.now(UTC) + timedelta(days=7)).timestamp() * 1000)))
            (mine,) = self._db.execute("SELECT pg_try_advisory_lock(%s)", [_PRUNING]).fetchone() or (False,)
            if not mine:
                return 0
            try:
                for number, name in self._db.execute("SELECT number, name FROM replicas").fetchall():
                    while found := self._prune_some(number, name, int(before.timestamp() * 1000), covering):
                        removed += found
                drop_empty_partitions(self._db, before)
            finally:
                if not self._db.broken:
                    self._db.execute("SELECT pg_advisory_unlock(%s)", [_PRUNING])
        return removed

    def _prune_some(self, replica: int, name: str, limit: int, covering: Callable[[Reach], Entry]) -> int:
        with self._transaction():
            old = self._db.execute(
                "SELECT r.number, r.time, sequence, body, bytes FROM records r"
                " JOIN dictionaries d ON d.number = dictionary WHERE replica = %(replica)s AND sequence < coalesce("
                " (SELECT min(sequence) FROM records WHERE replica = %(replica)s AND time >= %(limit)s),"
                " 9223372036854775807) ORDER BY sequence LIMIT %(most)s",
                {"replica": replica, "limit": limit, "most": _PRUNED_AT_ONCE},
            ).fetchall()
            if not old:
                return 0
            _, _, sequence, body, dictionary = old[-1]
            try:
                last = str(orjson.loads(Codec(dictionary).expand(body))["hash"])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"record {sequence} of {name} is damaged and not removed") from error
            self._db.execute("DELETE FROM checkpoints WHERE replica = %s AND sequence <= %s", [replica, sequence])
            self._put_checkpoint(covering(Reach(name, sequence, last)))
            numbers, times = ([one[column] for one in old] for column in (0, 1))
            self._db.execute("DELETE FROM findings WHERE record = ANY(%s)", [numbers])
            self._db.execute(
                "DELETE FROM records WHERE replica = %s AND sequence <= %s AND time = ANY(%s)",
                [replica, sequence, sorted(set(times))],
            )
        return len(old)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._db.transaction():
                yield
        except BaseException:
            # What was numbered in it is gone with it.
            self._replicas.clear()
            raise

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            raise StoreError(sentence(self._url, error)) from error

    def close(self) -> None:
        """End."""
        with contextlib.suppress(psycopg.Error):
            self._db.close()
