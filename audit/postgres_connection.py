"""A connection to the database of records, with limits: whoever asks must not wait for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any, LiteralString

import psycopg

_LIMITS = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Milliseconds: what was sent and is not acknowledged by then ends the connection.
    "tcp_user_timeout": 10_000,
}
_SERVER_LIMITS = "-c statement_timeout={0} -c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000"


def connect(
    url: str, password_file: Path | None, *, statement_milliseconds: int, read_only: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect by a URL (``postgresql://user@host/database?sslmode=verify-full``); the file is read each time.

    Raises ``psycopg.Error`` or ``OSError``.
    """
    secret = {} if password_file is None else {"password": password_file.read_text(encoding="utf-8").strip()}
    options = _SERVER_LIMITS.format(statement_milliseconds) + (" -c default_transaction_read_only=on" * read_only)
    return psycopg.connect(url, autocommit=True, application_name="tidewaiter", options=options, **_LIMITS, **secret)  # type: ignore[arg-type]


def sentence(url: str, error: Exception) -> str:
    """What went wrong, in one line and without what the URL may hold."""
    said = " ".join(str(error).split()) or type(error).__name__
    return f"the database of records ({shown(url)}): {said}"


def shown(url: str) -> str:
    """Host and database of a URL."""
    return url.partition("://")[2].rpartition("@")[2].partition("?")[0] or "by the environment"


def placeholders(statement: LiteralString) -> LiteralString:
    """``?`` as psycopg wants it."""
    return statement.replace("?", "%s")
