"""Where commands take records from: a file, a database, or standard input."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from audit.records import JsonLines, Records, RecordsError
from audit.sqlite_records import SqliteRecords, is_sqlite


class _Source(click.Path):
    """A file, or a database of PostgreSQL."""

    name = "FILE|URL"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith(_DATABASES):
            return value
        return super().convert(value, param, context)


_DATABASES = ("postgresql://", "postgres://")
SOURCE = _Source(path_type=Path)
"""The type of an option: a path, or a URL as text."""


@contextlib.contextmanager
def opened(source: Path | str, *, asked_again: bool = False) -> Iterator[Records]:
    """The records of a source; raises ``RecordsError``. Lines hold for one question, unless ``asked_again``."""
    if isinstance(source, str):
        # Its driver takes a while to import, which nobody else should wait for.
        from audit.postgres_records import PostgresRecords

        with contextlib.closing(PostgresRecords(source)) as stored:
            yield stored
    elif str(source) == "-":
        if sys.stdin.isatty():
            raise RecordsError("give --records FILE, or pipe the lines of `tidewaiter serve` in")
        yield JsonLines(list(sys.stdin.buffer) if asked_again else sys.stdin.buffer)
    elif is_sqlite(source):
        try:
            with contextlib.closing(SqliteRecords(source)) as records:
                yield records
        except sqlite3.DatabaseError as error:
            raise RecordsError(f"{source} cannot be read to its end: {error}") from None
    else:
        with source.open("rb") as lines:
            yield JsonLines(list(lines) if asked_again else lines)
