"""One service for the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.service import Service, running

REGISTRY = 'models: [{name: resnet50, versions: [{version: "3", state: approved, environments: [production]}]}]\n'
SETTINGS = {
    "environments": {"development": {}, "staging": {"action": "warn"}, "production": {"action": "deny"}},
    "registries": [{"name": "file", "type": "file", "path": "registry.yaml"}],
}


def with_registry(folder: Path) -> Path:
    """The folder, with the registry file in it."""
    (folder / "registry.yaml").write_text(REGISTRY, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Impatient with clients, so that nobody waits for the slow ones."""
    folder = with_registry(tmp_path_factory.mktemp("service"))
    with running(folder, {**SETTINGS, "server": {"readSeconds": 0.5}}) as found:
        yield found
        assert "Traceback" not in found.log
