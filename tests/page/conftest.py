from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.conftest import database, postgres_server  # noqa: F401  # fixtures
from tests.page import seeded
from tests.page.serving import ALPHA, AUDITOR, Client, Cluster, served, sqlite_page


@pytest.fixture(scope="session")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log with a story, which tests only read."""
    return seeded.stored(tmp_path_factory.mktemp("log") / "audit.db")


@pytest.fixture(scope="session")
def port(log_file: Path) -> Iterator[int]:
    """A page over it that tests share."""
    with served(sqlite_page(log_file, Cluster())) as found:
        yield found


@pytest.fixture
def auditor(port: int) -> Client:
    """Sees everything."""
    return Client(port, AUDITOR)


@pytest.fixture
def alice(port: int) -> Client:
    """Sees namespace `alpha`."""
    return Client(port, ALPHA)
