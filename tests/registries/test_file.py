from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from admission.approval import Approval, ApprovalQuestion, Unavailable
from registries.file import FileRegistry
from registries.opening import World, open_registries
from registries.registry import RegistryError
from registries.settings import RegistriesSettings
from tests.controlplane.waiting import wait_until

GOOD = 'models: [{name: bert, versions: [{version: "1", state: approved, expires: "2026-01-02"}]}]'


def test_a_day_in_quotes_ends_with_its_day_too(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(GOOD)
    found = FileRegistry(tmp_path / "models.yaml").lookup("bert", "1")
    assert isinstance(found, Approval)
    assert found.expires == datetime(2026, 1, 2, 23, 59, 59, 999999, tzinfo=UTC)


def test_a_file_that_was_never_good_raises_where_a_registry_does(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path / "none.yaml", "file")
    with pytest.raises(RegistryError, match="cannot be read"):
        asyncio.run(registry.fetch("bert", "1"))


def test_as_one_of_several_it_is_read_again_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    settings = RegistriesSettings.model_validate(
        {"registries": [{"name": "file", "type": "file", "path": "models.yaml"}]}
    )
    question = ApprovalQuestion("production", "bert", "1")

    async def run() -> None:
        chain = open_registries(settings, World(folder=tmp_path))
        assert isinstance(await chain.lookup(question), Unavailable)
        task = asyncio.create_task(chain.run())
        await asyncio.to_thread(path.write_text, GOOD)
        held = chain.by_name["file"]
        loop = asyncio.get_running_loop()

        def known() -> bool:
            asked = asyncio.run_coroutine_threadsafe(held.ask(question), loop).result(5)
            return isinstance(asked.answer, Approval)

        await asyncio.to_thread(wait_until, known, "the file to be read")
        found = await chain.ask(question)
        assert (found.registry, isinstance(found.answer, Approval)) == ("file", True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await chain.close()

    asyncio.run(run())
