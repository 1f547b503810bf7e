"""The tables of the SQLite store, and how an older file comes up to date."""

from __future__ import annotations

import sqlite3

from audit.store import StoreError

_MIGRATIONS = (
    """
    CREATE TABLE dictionaries (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL UNIQUE);
    CREATE TABLE replicas (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE records (
        number INTEGER PRIMARY KEY,
        replica INTEGER NOT NULL REFERENCES replicas,
        sequence INTEGER NOT NULL,
        time INTEGER NOT NULL,
        uid TEXT NOT NULL,
        namespace TEXT NOT NULL,
        model TEXT NOT NULL,
        user TEXT NOT NULL,
        verdict TEXT NOT NULL,
        dictionary INTEGER NOT NULL REFERENCES dictionaries,
        body BLOB NOT NULL,
        UNIQUE (replica, sequence)
    );
    CREATE INDEX records_time ON records (time);
    CREATE INDEX records_uid ON records (uid);
    CREATE INDEX records_namespace ON records (namespace, time);
    CREATE INDEX records_model ON records (model, time);
    CREATE INDEX records_user ON records (user, time);
    CREATE INDEX records_verdict ON records (verdict, time);
    CREATE TABLE findings (
        rule TEXT NOT NULL, time INTEGER NOT NULL, record INTEGER NOT NULL REFERENCES records,
        PRIMARY KEY (rule, time, record)
    ) WITHOUT ROWID;
    CREATE INDEX findings_record ON findings (record);
    CREATE TABLE checkpoints (
        replica INTEGER NOT NULL REFERENCES replicas, sequence INTEGER NOT NULL, reason TEXT NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY (replica, sequence, reason)
    ) WITHOUT ROWID;
    """,
)
VERSION = len(_MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date, each step whole or not at all."""
    found = version_of(connection)
    if found > VERSION:
        raise StoreError(f"the file has version {found} and this program knows {VERSION} at most; use a newer one")
    for number, statements in enumerate(_MIGRATIONS[found:], found + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {number}; COMMIT;")


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations the file has seen."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
