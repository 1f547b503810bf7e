"""Reloading: a change is in force within a poll, and a broken one leaves what was."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from admission.finding import Finding
from admission.validator import PolicyAnswers, PolicyError, PolicyInput
from tests.rego.policies import SAYS, labelled, rule, run
from webhook.rego.child_engine import ChildEngine
from webhook.rego.combined_engine import Engine
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.policy_set import PolicySet
from webhook.rego.policy_store import PolicyStore
from webhook.rego.sources import ConfigMapSource, FolderSource


async def embedded(policies: PolicySet) -> Engine:
    return EmbeddedEngine(policies)


def write(folder: Path, name: str, content: bytes) -> None:
    """As an editor does: a new file takes the old one's place."""
    (folder / f".{name}").write_bytes(content)
    (folder / f".{name}").rename(folder / name)


def changes(word: str) -> bytes:
    return rule("a-rule", f'findings contains {{"path": "spec", "message": "{word}"}}')


async def message(store: PolicyStore) -> str:
    found = (await store.evaluate(labelled()))["a-rule"]
    assert isinstance(found, list)
    return found[0].message


def test_a_change_is_in_force_without_being_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        changed = asyncio.Event()
        store = PolicyStore(FolderSource(tmp_path), embedded, 0.05, lambda _store: changed.set())
        await store.start()
        before = store.revision
        following = asyncio.create_task(store.follow())
        assert await message(store) == "old"

        write(tmp_path, "a.rego", changes("new"))
        await asyncio.wait_for(changed.wait(), 20)

        assert await message(store) == "new"
        assert (store.revision != before, store.problem) == (True, "")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()

    run(main)


def test_a_broken_change_leaves_the_last_good_one_and_says_what_is_wrong(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        said: list[str] = []
        store = PolicyStore(FolderSource(tmp_path), embedded, on_change=lambda one: said.append(one.problem))
        await store.start()
        before = store.revision

        write(tmp_path, "a.rego", b"package tidewaiter.a\nfindings contains {")
        assert await store.refresh()

        assert (await message(store), store.revision) == ("old", before)
        assert store.problem.startswith(f"folder {tmp_path} is not in force: a.rego:2:")
        write(tmp_path, "a.rego", changes("new"))
        await store.refresh()
        assert (await message(store), store.problem) == ("new", "")
        assert [bool(one) for one in said] == [True, False]

    run(main)


def test_a_change_that_only_fails_when_it_is_evaluated_is_not_put_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        store = PolicyStore(FolderSource(tmp_path), embedded)
        await store.start()
        write(tmp_path, "a.rego", rule("a-rule", 'findings contains {"path": "p", "message": nowhere.f(1)}'))
        await store.refresh()
        assert (await message(store), "could not find function" in store.problem) == ("old", True)

    run(main)


def test_an_engine_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        left = [0]

        async def unlucky(policies: PolicySet) -> Engine:
            if left[0]:
                left[0] -= 1
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return EmbeddedEngine(policies)

        store = PolicyStore(FolderSource(tmp_path), unlucky)
        await store.start()
        left[0] = 1
        write(tmp_path, "a.rego", changes("new"))
        await store.refresh()
        assert (await message(store), "Resource temporarily unavailable" in store.problem) == ("old", True)
        assert await store.refresh()
        assert (await message(store), store.problem) == ("new", "")

    run(main)


def test_going_back_to_what_is_in_force_ends_the_problem(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        store = PolicyStore(FolderSource(tmp_path), embedded)
        await store.start()
        (tmp_path / "a.rego").rename(tmp_path / "gone")
        await store.refresh()
        assert "has no .rego file" in store.problem
        (tmp_path / "gone").rename(tmp_path / "a.rego")
        await store.refresh()
        assert store.problem == ""

    run(main)


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        store = PolicyStore(FolderSource(tmp_path), embedded)
        await store.start()
        assert not await store.refresh()
        os.utime(tmp_path / "a.rego", (1, 1))
        assert await store.refresh()

    run(main)


def test_what_is_broken_at_start_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(PolicyError, match=r"has no \.rego file"):
            await PolicyStore(FolderSource(tmp_path), embedded).start()

    run(main)


def test_a_config_map_is_put_in_force_when_it_is_handed_over() -> None:
    async def main() -> None:
        source = ConfigMapSource("tidewaiter/policies")
        source.put({"a.rego": changes("old").decode()})
        store = PolicyStore(source, embedded)
        await store.start()
        source.put({"a.rego": changes("new").decode()})
        await store.refresh()
        assert await message(store) == "new"
        source.put(None)
        await store.refresh()
        assert (await message(store), "ConfigMap tidewaiter/policies does not exist" in store.problem) == ("new", True)

    run(main)


class _Slow:
    """An engine whose answer is waited for, and that knows whether it was closed."""

    def __init__(self, policies: PolicySet) -> None:
        self.rules, self.revision = policies.rules, policies.revision
        self.asked, self.go_on, self.closed = asyncio.Event(), asyncio.Event(), False

    async def evaluate(self, _policy_input: PolicyInput) -> PolicyAnswers:
        self.asked.set()
        await self.go_on.wait()
        assert not self.closed
        return {"a-rule": [Finding("a-rule", "p", self.revision, "r")]}

    async def close(self) -> None:
        self.closed = True


def test_a_review_in_flight_ends_with_the_engine_that_it_began_with(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, "a.rego", changes("old"))
        made: list[_Slow] = []

        async def slow(policies: PolicySet) -> Engine:
            made.append(_Slow(policies))
            return made[-1]

        store = PolicyStore(FolderSource(tmp_path), slow)
        await store.start()
        before = store.revision
        review = asyncio.create_task(store.evaluate(labelled()))
        await made[0].asked.wait()
        write(tmp_path, "a.rego", changes("new"))
        reload = asyncio.create_task(store.refresh())
        async with asyncio.timeout(20):
            while store.revision == before:  # noqa: ASYNC110  # the store says nothing at this point
                await asyncio.sleep(0.01)
        assert not made[0].closed
        made[0].go_on.set()
        assert await review == {"a-rule": [Finding("a-rule", "p", before, "r")]}
        await reload
        assert made[0].closed

    run(main)


def test_a_team_s_child_is_replaced_and_ended(tmp_path: Path) -> None:
    async def main() -> None:
        children: list[ChildEngine] = []

        async def in_child(policies: PolicySet) -> Engine:
            engine = ChildEngine(policies)
            await engine.start()
            children.append(engine)
            return engine

        write(tmp_path, "says.rego", rule("says", SAYS))
        store = PolicyStore(FolderSource(tmp_path), in_child)
        await store.start()
        write(tmp_path, "more.rego", rule("more", SAYS))
        await store.refresh()
        assert set(await store.evaluate(labelled(say="x"))) == {"says", "more"}
        assert children[0]._child is None
        await store.close()
        assert children[1]._child is None

    run(main)
