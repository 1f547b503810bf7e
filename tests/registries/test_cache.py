from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from admission.approval import Answer, Approval, ApprovalState, NotFound, Unavailable
from registries.cache import CachedRegistry
from tests.controlplane.waiting import wait_until
from tests.registries.stub import DOWN, GARBAGE, Clock, Stub, approval, cached, question, settled

REVOKED = approval(state=ApprovalState.REVOKED)
FRESH, REVALIDATE, STALE = 20.0, 10.0, 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub() -> Stub:
    stub = Stub()
    stub.say(approval())
    return stub


def cache(stub: Stub, clock: Clock, **settings: float) -> CachedRegistry:
    given: dict[str, Any] = {
        "fresh_seconds": FRESH,
        "revalidate_seconds": REVALIDATE,
        "stale_seconds": STALE,
        **settings,
    }
    return cached(stub, clock, **given)


async def answer(registry: CachedRegistry, version: str = "1") -> Answer:
    return (await registry.ask(question(version))).answer


def state(found: Answer) -> str:
    assert isinstance(found, Approval), found
    return f"{'stale ' if found.stale else ''}{found.state.value}"


def test_a_fresh_answer_is_given_without_asking_and_names_the_registry(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        clock.now += FRESH - 1
        found = await registry.ask(question())
        assert state(found.answer) == "approved"
        assert (found.registry, found.age, stub.asked.total()) == ("models", FRESH - 1, 1)
        assert isinstance(found.answer, Approval)
        assert found.answer.registry == "models"

    asyncio.run(run())


def test_a_somewhat_older_answer_is_given_at_once_and_asked_about_behind(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(REVOKED)
        clock.now += FRESH
        assert state(await answer(registry)) == "approved"
        await settled(lambda: stub.asked.total() == 2 and not stub.under_way.total())
        assert state(await answer(registry)) == "revoked"

    asyncio.run(run())


def test_a_revocation_is_seen_within_the_stated_time_whatever_was_asked_before(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(REVOKED)
        clock.now += FRESH + REVALIDATE
        assert state(await answer(registry)) == "revoked"

    asyncio.run(run())


def test_a_registry_that_is_down_is_stood_in_for_until_the_limit_and_no_longer(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(DOWN)
        clock.now += STALE
        found = await registry.ask(question())
        assert (state(found.answer), found.age, found.cause) == ("stale approved", STALE, "refused")
        clock.now += 1
        late = await answer(registry)
        assert isinstance(late, Unavailable)
        assert late.reason == "registry models cannot be reached, and what it last said is older than 1 h"

    asyncio.run(run())


def test_what_was_never_asked_is_unavailable_while_the_registry_is_down(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.say(DOWN)
        assert await answer(cache(stub, clock)) == Unavailable("registry models cannot be reached")

    asyncio.run(run())


def test_a_version_that_was_seen_gone_does_not_come_back_while_the_registry_is_down(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(NotFound(("2",)))
        clock.now += FRESH + REVALIDATE
        assert await answer(registry) == NotFound(("2",))
        stub.say(DOWN)
        clock.now += 60
        assert isinstance(await answer(registry), Unavailable)

    asyncio.run(run())


def test_not_found_and_failures_are_remembered_for_a_moment_only(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock, negative_seconds=3)
        for said in (NotFound(), GARBAGE):
            stub.say(said, "9")
            stub.asked.clear()
            clock.now += 10
            await answer(registry, "9")
            clock.now += 2.9
            await answer(registry, "9")
            assert stub.asked.total() == 1
        stub.say(approval("9"), "9")
        clock.now += 0.1
        assert state(await answer(registry, "9")) == "approved"

    asyncio.run(run())


def test_many_who_ask_at_once_make_one_question(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        stub.gate = asyncio.Event()
        waiting = [asyncio.create_task(answer(registry)) for _ in range(50)]
        await settled(lambda: stub.asked.total() == 1)
        waiting[0].cancel()
        stub.gate.set()
        found = await asyncio.gather(*waiting[1:])
        assert {state(one) for one in found} == {"approved"}
        assert stub.asked.total() == 1

    asyncio.run(run())


def test_a_registry_that_does_not_answer_is_waited_for_until_the_deadline(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.gate = asyncio.Event()
        registry = cache(stub, clock, deadline_seconds=0.05)
        found = await registry.ask(question())
        assert isinstance(found.answer, Unavailable)
        assert (found.cause, found.answer.reason) == ("deadline", "registry models did not answer in time")
        await registry.close()

    asyncio.run(run())


def test_a_caller_with_less_time_waits_less_and_the_question_goes_on(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.gate = asyncio.Event()
        registry = cache(stub, clock, deadline_seconds=20)
        assert isinstance((await registry.ask(question(), within=0.01)).answer, Unavailable)
        stub.gate.set()
        assert state(await answer(registry)) == "approved"
        assert stub.asked.total() == 1

    asyncio.run(run())


def test_nobody_waits_for_a_registry_that_did_not_answer_the_last_time(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock, deadline_seconds=0.05)
        await answer(registry)
        stub.gate = asyncio.Event()
        clock.now += FRESH + REVALIDATE
        assert state(await answer(registry)) == "stale approved"
        clock.now += 10
        asking = asyncio.create_task(answer(registry))
        await asyncio.sleep(0)
        assert asking.done()
        assert state(asking.result()) == "stale approved"
        await registry.close()

    asyncio.run(run())


def test_nobody_waits_for_a_registry_that_is_left_alone(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cached(stub, clock, failures=1, fresh_seconds=FRESH, deadline_seconds=0.05)
        await answer(registry)
        stub.say(DOWN, "2")
        await answer(registry, "2")
        clock.now += 1000  # it may be tried again, and turns out to be silent
        stub.gate = asyncio.Event()
        asking = asyncio.create_task(registry.ask(question()))
        await asyncio.sleep(0)
        assert asking.done()
        assert (state(asking.result().answer), asking.result().cause) == ("stale approved", "open")
        await registry.close()

    asyncio.run(run())


def test_what_is_too_old_to_stand_in_is_waited_for(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(DOWN)
        clock.now += 100
        assert state(await answer(registry)) == "stale approved"
        stub.say(approval())
        clock.now += STALE
        assert state(await answer(registry)) == "approved"

    asyncio.run(run())


def test_a_registry_that_is_back_answers_the_next_question_but_one(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(DOWN)
        clock.now += 100
        assert state(await answer(registry)) == "stale approved"
        stub.say(REVOKED)
        clock.now += 100
        await answer(registry)
        await settled(lambda: not stub.under_way.total() and stub.asked.total() == 3)
        assert state(await answer(registry)) == "revoked"

    asyncio.run(run())


def test_a_pushed_revocation_wins_over_an_older_question_that_is_under_way(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        stub.gate = asyncio.Event()
        asking = asyncio.create_task(answer(registry))
        await settled(lambda: stub.asked.total() == 1)
        registry.put("bert", "1", REVOKED)
        stub.gate.set()
        assert state(await asking) == "revoked"
        assert state(await answer(registry)) == "revoked"

    asyncio.run(run())


def test_a_pushed_revocation_wins_over_an_answer_that_nobody_has_picked_up_yet(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        stub.gate = asyncio.Event()
        asking = asyncio.create_task(answer(registry))
        await settled(lambda: stub.asked.total() == 1)
        flight = next(iter(registry._flights.values()))
        flight.add_done_callback(lambda _done: registry.put("bert", "1", REVOKED))
        stub.gate.set()
        assert state(await asking) == "revoked"

    asyncio.run(run())


def test_what_was_invalidated_is_asked_about_anew_and_not_stood_in_for(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        registry.invalidate("bert", "1")
        stub.say(DOWN)
        assert isinstance(await answer(registry), Unavailable)

    asyncio.run(run())


def test_questions_about_what_is_not_there_push_out_no_approval(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock, entries=4)
        await answer(registry)
        for number in range(100):
            await answer(registry, f"none-{number}")
        assert len(registry) <= 4
        assert state(await answer(registry)) == "approved"
        assert stub.asked["bert", "1"] == 1

    asyncio.run(run())


def test_the_answer_that_was_used_least_recently_goes_first(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock, entries=2)
        stub.say(approval("2"), "2")
        stub.say(approval("3"), "3")
        for version in ("1", "2", "1", "3", "1"):
            await answer(registry, version)
        assert stub.asked == Counter({("bert", "1"): 1, ("bert", "2"): 1, ("bert", "3"): 1})
        await answer(registry, "2")
        assert stub.asked["bert", "2"] == 2

    asyncio.run(run())


def test_too_many_open_questions_are_refused_instead_of_queued(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock, questions=2)
        stub.gate = asyncio.Event()
        waiting = [asyncio.create_task(answer(registry, str(number))) for number in (1, 2)]
        await settled(lambda: stub.asked.total() == 2)
        found = await registry.ask(question("3"))
        assert found.cause == "busy"
        stub.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_what_is_in_use_is_asked_about_again_before_it_is_old_and_the_rest_is_not(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.say(approval("2"), "2")
        registry = cache(stub, clock, keep_warm_seconds=60)
        await answer(registry, "2")
        clock.now += 100
        await answer(registry)
        stub.asked.clear()
        clock.now += FRESH - 1
        await registry.refresh_due()
        assert stub.asked == Counter({("bert", "1"): 1})

    asyncio.run(run())


def test_in_the_background_answers_are_asked_about_at_different_times(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        for number in range(40):
            stub.say(approval(str(number)), str(number))
            await answer(registry, str(number))
        stub.asked.clear()
        clock.now += FRESH * 0.75
        await registry.refresh_due()
        assert 5 < stub.asked.total() < 35

    asyncio.run(run())


def test_the_background_sees_a_revocation_that_nobody_asks_about(stub: Stub, clock: Clock, tmp_path: Path) -> None:
    async def run() -> None:
        registry = cached(stub, clock, snapshot=tmp_path / "kept", fresh_seconds=FRESH)
        await answer(registry)
        stub.say(REVOKED)
        clock.now += FRESH
        task = asyncio.create_task(registry.run())
        await asyncio.to_thread(wait_until, lambda: b"revoked" in read(tmp_path / "kept"), "the revocation on disk")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


@pytest.mark.parametrize("kept", [True, False])
def test_the_background_rests_while_there_is_nothing_to_do(
    stub: Stub, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    rounds: list[int] = []

    async def run() -> None:
        registry = cached(stub, clock, snapshot=tmp_path / "kept" if kept else None)
        save = registry.save

        async def counted() -> None:
            rounds.append(1)
            assert len(rounds) < 10, "it does not rest"
            await save()

        monkeypatch.setattr(registry, "save", counted)
        await answer(registry)
        task = asyncio.create_task(registry.run())
        await settled(lambda: bool(rounds) or task.done())
        await asyncio.to_thread(lambda: None)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_clock_that_was_set_back_makes_no_answer_young(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cache(stub, clock)
        await answer(registry)
        stub.say(REVOKED)
        clock.now -= 600
        assert state(await answer(registry)) == "revoked"

    asyncio.run(run())


def test_an_answer_for_another_version_is_not_believed(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.say(approval("2"), "1")
        assert await answer(cache(stub, clock)) == Unavailable("registry models answers for another model or version")

    asyncio.run(run())


def test_a_fault_inside_is_no_approval_and_no_crash(stub: Stub, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        stub.say(KeyError("secret-token"))
        found = await answer(cache(stub, clock))
        assert found == Unavailable("registry models cannot be asked: something is wrong inside")

    asyncio.run(run())
    assert "cannot be asked" in caplog.text


def test_one_broken_manifest_does_not_have_the_registry_left_alone(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        stub.say(GARBAGE, "broken")
        registry = cached(stub, clock, failures=2, negative_seconds=0)
        for _ in range(10):
            await answer(registry, "broken")
        assert registry.breaker_state == "closed"
        assert state(await answer(registry)) == "approved"

    asyncio.run(run())


def test_a_registry_that_fails_is_left_alone_and_tried_again(stub: Stub, clock: Clock) -> None:
    async def run() -> None:
        registry = cached(stub, clock, failures=2, negative_seconds=0)
        for version in ("2", "3", "4", "5"):
            stub.say(DOWN, version)
            found = await registry.ask(question(version))
        assert stub.asked.total() == 2
        assert found.cause == "open"
        assert found.answer == Unavailable("registry models has failed and is left alone for a while")
        clock.now += 1
        assert state(await answer(registry)) == "approved"
        assert registry.breaker_state == "closed"

    asyncio.run(run())


def test_every_answer_is_counted_by_how_it_came(stub: Stub, clock: Clock) -> None:
    counted: list[str] = []

    async def run() -> None:
        registry = cached(stub, clock, count=lambda _name, result: counted.append(result))
        await answer(registry)
        await answer(registry)
        await answer(registry, "9")
        stub.say(DOWN)
        clock.now += 1000
        await answer(registry)

    asyncio.run(run())
    assert counted == ["asked", "fresh", "asked", "not-found", "refused", "stale"]


# What is kept over a restart


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


def read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def restarted(stub: Stub, clock: Clock, path: Path, identity: str = "one") -> CachedRegistry:
    return cached(stub, clock, snapshot=path, identity=identity, stale_seconds=STALE)


def test_a_restart_while_the_registry_is_down_still_knows_what_was_approved(
    stub: Stub, clock: Clock, tmp_path: Path
) -> None:
    async def run() -> None:
        path = tmp_path / "new" / "models.approvals"
        before = restarted(stub, clock, path)
        await answer(before)
        await before.close()
        assert stub.closed
        stub.say(DOWN)
        clock.now += STALE - 1
        after = restarted(stub, clock, path)
        assert after.problem == ""
        assert state(await answer(after)) == "stale approved"
        clock.now += 2
        assert isinstance(await answer(after), Unavailable)
        assert isinstance(await answer(restarted(stub, clock, path)), Unavailable)

    asyncio.run(run())


def test_what_was_kept_is_never_given_as_fresh(stub: Stub, clock: Clock, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "models.approvals"
        before = restarted(stub, clock, path)
        await answer(before)
        await before.close()
        stub.say(REVOKED)
        clock.now += FRESH + REVALIDATE
        assert state(await answer(restarted(stub, clock, path))) == "revoked"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[:-20], "is damaged"),
        (lambda content: content.replace(b"approved", b"revoked!"), "is damaged"),
        (lambda content: content.replace(b'"format":1', b'"format":2'), "has another format"),
        (lambda _content: b"", "is damaged"),
        (lambda _content: b"[]\n[]", "has another format"),
        (lambda _content: b"\xff" * 100, "is damaged"),
    ],
)
def test_a_spoiled_file_is_not_used_and_said_so(
    stub: Stub, clock: Clock, tmp_path: Path, spoil: object, why: str
) -> None:
    async def run() -> None:
        path = tmp_path / "models.approvals"
        before = restarted(stub, clock, path)
        await answer(before)
        await before.close()
        assert callable(spoil)
        path.write_bytes(spoil(path.read_bytes()))
        stub.say(DOWN)
        after = restarted(stub, clock, path)
        assert why in after.problem
        assert isinstance(await answer(after), Unavailable)

    asyncio.run(run())


def test_what_another_registry_of_that_name_said_is_not_used(stub: Stub, clock: Clock, tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "models.approvals"
        before = restarted(stub, clock, path)
        await answer(before)
        await before.close()
        assert "was written for other settings" in restarted(stub, clock, path, identity="two").problem

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_is_said_and_stops_nothing(stub: Stub, clock: Clock, tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "file").touch()
        registry = restarted(stub, clock, tmp_path / "file" / "models.approvals")
        assert state(await answer(registry)) == "approved"
        await registry.save()
        assert "cannot be kept" in registry.problem
        assert state(await answer(registry)) == "approved"

    asyncio.run(run())


def test_a_file_is_replaced_as_a_whole_and_readable_by_the_service_alone(
    stub: Stub, clock: Clock, tmp_path: Path
) -> None:
    async def run() -> None:
        path = tmp_path / "models.approvals"
        registry = restarted(stub, clock, path)
        await answer(registry)
        await registry.save()
        assert path.stat().st_mode & 0o077 == 0
        assert names(tmp_path) == ["models.approvals"]
        assert json.loads(path.read_bytes().splitlines()[0])["format"] == 1

    asyncio.run(run())
