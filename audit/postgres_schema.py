"""The tables of the PostgreSQL store, one partition of records a month, and how older ones come up to date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from audit.store import StoreError

_MIGRATIONS = (
    """
    CREATE TABLE dictionaries (number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bytes bytea NOT NULL UNIQUE);
    CREATE TABLE replicas (number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE records (
        number bigint GENERATED ALWAYS AS IDENTITY,
        replica int NOT NULL REFERENCES replicas,
        sequence bigint NOT NULL,
        time bigint NOT NULL,
        uid text NOT NULL,
        namespace text NOT NULL,
        model text NOT NULL,
        "user" text NOT NULL,
        verdict text NOT NULL,
        dictionary int NOT NULL REFERENCES dictionaries,
        body bytea NOT NULL,
        PRIMARY KEY (replica, sequence, time)
    ) PARTITION BY RANGE (time);
    ALTER TABLE records ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE INDEX records_number ON records (number);
    CREATE INDEX records_time ON records (time, number);
    CREATE INDEX records_uid ON records (uid);
    CREATE INDEX records_namespace ON records (namespace, time);
    CREATE INDEX records_model ON records (model, time);
    CREATE INDEX records_user ON records ("user", time);
    CREATE INDEX records_verdict ON records (verdict, time);
    CREATE TABLE findings (
        rule text NOT NULL, time bigint NOT NULL, record bigint NOT NULL, PRIMARY KEY (rule, time, record)
    );
    CREATE INDEX findings_record ON findings (record, time);
    CREATE TABLE checkpoints (
        replica int NOT NULL REFERENCES replicas, sequence bigint NOT NULL, reason text NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (replica, sequence, reason)
    );
    """,
)
VERSION = len(_MIGRATIONS)
_LOCK = 0x7469646577616974
"""An advisory lock of our own: replicas that start together take turns at the tables."""


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Bring the tables up to date, each step whole or not at all."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute("CREATE TABLE IF NOT EXISTS tidewaiter_schema (version int NOT NULL)")
        found = check_version(connection)
        for statements in _MIGRATIONS[found:]:
            connection.execute(statements)
        if found == 0:
            connection.execute("INSERT INTO tidewaiter_schema (version) VALUES (%s)", [VERSION])
        elif found < VERSION:
            connection.execute("UPDATE tidewaiter_schema SET version = %s", [VERSION])


def check_version(connection: psycopg.Connection[Any]) -> int:
    """How many migrations the database has seen; raises ``StoreError`` where a newer program made it."""
    row = connection.execute("SELECT version FROM tidewaiter_schema").fetchone()
    found = 0 if row is None else int(row[0])
    if found > VERSION:
        raise StoreError(f"it has version {found} and this program knows {VERSION} at most; use a newer one")
    return found


def make_partition(connection: psycopg.Connection[Any], month: str) -> None:
    """Make the partition of a month (``2026_11``), where it is missing."""
    first, last = (int(moment.timestamp() * 1000) for moment in _bounds(month))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF records FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(f"records_{month}"), sql.Literal(first), sql.Literal(last)
            )
        )


def drop_empty_partitions(connection: psycopg.Connection[Any], before: datetime) -> None:
    """Give back the disk of months that retention has emptied."""
    rows = connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass")
    for (name,) in rows.fetchall():
        if _bounds(name.removeprefix("records_"))[1] > before:
            continue
        table = sql.Identifier(name)
        with connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
            if connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone() is None:
                connection.execute(sql.SQL("DROP TABLE {}").format(table))


def month_of(milliseconds: int) -> str:
    """The partition of a time."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y_%m}"


def _bounds(month: str) -> tuple[datetime, datetime]:
    year, number = (int(part) for part in month.split("_"))
    return datetime(year, number, 1, tzinfo=UTC), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
