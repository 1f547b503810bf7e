"""Records of a PostgreSQL database, as ``PostgresStore`` writes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from audit.postgres_connection import connect, placeholders, sentence
from audit.postgres_schema import check_version
from audit.records import RecordsError
from audit.sql_records import SqlRecords
from audit.store import StoreError

_STATEMENT_MILLISECONDS = 60_000
_ROWS_AT_ONCE = 1000


class PostgresRecords(SqlRecords):
    """Replicas may be writing meanwhile. Closed with ``close``."""

    def __init__(
        self, url: str, password_file: Path | None = None, statement_milliseconds: int = _STATEMENT_MILLISECONDS
    ) -> None:
        self._url = url
        with self._sentences():
            self._db = connect(url, password_file, statement_milliseconds=statement_milliseconds, read_only=True)
            try:
                check_version(self._db)
                dictionaries = dict(self._db.execute("SELECT number, bytes FROM dictionaries").fetchall())
            except BaseException:
                self._db.close()
                raise
        super().__init__(self._rows, self._streamed, "string_agg", dictionaries)

    def _rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._sentences():
            return self._db.execute(placeholders(statement), values).fetchall()

    def _streamed(self, statement: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Rows by a cursor of the server: nobody holds a hundred million of them."""
        with self._sentences(), self._db.transaction(), self._db.cursor("records") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            yield from cursor.execute(placeholders(statement), values)

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.UndefinedTable:
            raise RecordsError(f"{sentence(self._url, Exception('there are no records in it'))}") from None
        except (psycopg.Error, OSError, StoreError) as error:
            raise RecordsError(sentence(self._url, error)) from error

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()
