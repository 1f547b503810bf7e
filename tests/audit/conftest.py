from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.audit import postgres
from tests.audit.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One that tests share: they do not stop it."""
    with postgres.postgres() as server:
        yield server


@pytest.fixture
def database(postgres_server: Postgres) -> str:
    """The URL of an empty database."""
    url = postgres_server.url
    with postgres_server.connect() as connection:
        row = connection.execute("SELECT count(*) FROM pg_database").fetchone()
        assert row is not None
        name = f"audit_{row[0]}"
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return f"{url.rpartition('/')[0]}/{name}"
