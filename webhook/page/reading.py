"""Questions to the store of records: on threads of their own, each with its own connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from audit.records import RecordsError
from audit.settings import AuditSettings
from audit.sql_records import SqlRecords
from audit.sqlite_records import SqliteRecords

T = TypeVar("T")
OpenRecords = Callable[[], SqlRecords]
_LOG = logging.getLogger("tidewaiter.page")
_THREADS = 2
_SECONDS = 8.0
_TOO_SLOW = "The records took too long to read. Ask for a shorter time, or for one namespace."


class NotReadError(Exception):
    """The records could not be read now; the text is a sentence."""


class Reading:
    """Runs questions. ``open_records`` may raise ``RecordsError`` and is tried again at the next one."""

    def __init__(self, open_records: OpenRecords) -> None:
        self._open = open_records
        self._threads = ThreadPoolExecutor(_THREADS, "page")
        self._own = threading.local()

    async def ask(self, question: Callable[[SqlRecords], T]) -> T:
        """The answer; raises ``NotReadError``."""
        try:
            async with asyncio.timeout(2 * _SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)
        except TimeoutError:
            raise NotReadError(_TOO_SLOW) from None

    def _answer(self, question: Callable[[SqlRecords], T]) -> T:
        try:
            records: SqlRecords | None = getattr(self._own, "records", None)
            if records is None:
                records = self._own.records = self._open()
            records.give_up_after(_SECONDS)
            return question(records)
        except (RecordsError, sqlite3.Error) as error:
            if "interrupted" in str(error) or "statement timeout" in str(error):
                raise NotReadError(_TOO_SLOW) from None
            _LOG.warning("records could not be read for the page: %s", error)
            records, self._own.records = getattr(self._own, "records", None), None
            if records is not None:
                records.close()
            raise NotReadError("The store of records does not answer. Try again in a moment.") from error

    def close(self) -> None:
        """End the threads, and their connections, once what they read is read."""
        together = threading.Barrier(_THREADS)
        for _ in range(_THREADS):
            self._threads.submit(self._let_go, together)
        self._threads.shutdown(wait=False)

    def _let_go(self, together: threading.Barrier) -> None:
        """Each thread its own: only that one may. They wait for each other, so that none does it twice."""
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(2 * _SECONDS)
        records: SqlRecords | None = getattr(self._own, "records", None)
        if records is not None:
            records.close()


def opener(settings: AuditSettings) -> OpenRecords:
    """What opens the store that the settings name; raises ``ValueError`` where they name none."""
    path, database = settings.path, settings.postgres
    if path is not None:
        return lambda: SqliteRecords(path)
    if database is None:
        raise ValueError("page: there are no records to show; set audit.path or audit.postgres, or page.enabled: false")

    def opened() -> SqlRecords:
        # Its driver takes a while to import, which only those wait for who have a database.
        from audit.postgres_records import PostgresRecords

        return PostgresRecords(database.url, database.password_file, int(_SECONDS * 1000))

    return opened
