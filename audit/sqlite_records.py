"""Records of a SQLite file, as ``SqliteStore`` writes it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from audit.records import RecordsError
from audit.sql_records import SqlRecords
from audit.sqlite_schema import VERSION, version_of

_STEPS_BETWEEN_LOOKS = 10_000
_SQLITE = b"SQLite format 3\x00"


class SqliteRecords(SqlRecords):
    """Another process may be writing to the file. Closed with ``close``."""

    def __init__(self, path: Path) -> None:
        # Where the folder cannot be written, only a file that nobody writes to can be read.
        for options in ("mode=ro", "mode=ro&immutable=1"):
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)
            try:
                found = version_of(self._db)
                dictionaries = dict(self._db.execute("SELECT number, bytes FROM dictionaries"))
                break
            except sqlite3.OperationalError as error:
                self._db.close()
                problem = str(error)
        else:
            raise RecordsError(f"{path} cannot be read as a file of records: {problem}")
        if found > VERSION:
            self._db.close()
            raise RecordsError(f"{path} has version {found} and this program knows {VERSION} at most; use a newer one")
        super().__init__(self._db.execute, self._db.execute, "group_concat", dictionaries)

    def give_up_after(self, seconds: float) -> None:
        """Whatever is read from now on and takes longer raises ``sqlite3.OperationalError``: interrupted."""
        ends = time.monotonic() + seconds
        self._db.set_progress_handler(lambda: time.monotonic() > ends, _STEPS_BETWEEN_LOOKS)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite file; raises ``RecordsError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise RecordsError(f"records {path} cannot be read: {error.strerror}") from None
