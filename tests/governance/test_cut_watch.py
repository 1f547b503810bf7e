"""A watch that is cut off: what it said is believed for a while, marked stale, and then no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from admission.approval import Answered, Approval, ApprovalQuestion, Unavailable
from registries.cluster import ClusterRegistry
from registries.settings import ClusterSettings
from registries.watched import WatchedRegistry
from tests.controlplane.waiting import wait_until
from tests.governance.objects import entry, version_of
from tests.unit.test_cluster_watch import ApiServer, event, page
from webhook import cluster
from webhook.cluster import ClusterWatch, governance_kinds
from webhook.governance.policy_exceptions import PolicyExceptions
from webhook.governance.state import GovernanceState

SETTINGS = ClusterSettings(name="own", type="cluster", fresh_seconds=100, stale_seconds=1000)
QUESTION = ApprovalQuestion("production", "resnet50", "3")
BOOKMARK = event("BOOKMARK", {"metadata": {"resourceVersion": "45"}})


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def versions(clock: Clock) -> ClusterRegistry:
    return ClusterRegistry(clock=clock)


def ask(versions: ClusterRegistry, question: ApprovalQuestion = QUESTION, counted: list[str] | None = None) -> Answered:
    results = counted if counted is not None else []
    registry = WatchedRegistry(SETTINGS, versions, lambda name, result: results.append(f"{name} {result}"))
    return asyncio.run(registry.ask(question))


def approved() -> dict[str, Any]:
    return version_of("resnet50", "3", entry("production", "ada"))


@pytest.mark.parametrize(
    ("silence", "freshness", "cause"),
    [
        (0, "fresh", ""),
        (100, "fresh", ""),
        (101, "stale", "unheard"),
        (1000, "stale", "unheard"),
        (1001, "unavailable", "unheard"),
    ],
)
def test_what_was_heard_ages(
    versions: ClusterRegistry, clock: Clock, silence: float, freshness: str, cause: str
) -> None:
    versions.put(approved())
    versions.keep_only({approved()["metadata"]["name"]})
    versions.heard()
    clock.now += silence
    counted: list[str] = []

    found = ask(versions, counted=counted)

    assert (found.freshness, found.cause, found.registry) == (freshness, cause, "own")
    assert counted == [f"own {freshness}"]
    if freshness != "unavailable":
        assert isinstance(found.answer, Approval)
        assert found.age == silence


def test_too_long_a_silence_is_a_sentence(versions: ClusterRegistry, clock: Clock) -> None:
    versions.put(approved())
    versions.listed()
    versions.heard()
    clock.now += 7300

    found = ask(versions)

    assert found.answer == Unavailable(
        "registry own has not heard from the cluster's API server for 2 h, "
        "and what was approved or revoked since is not known"
    )


def test_a_version_that_is_unknown_may_have_come_meanwhile(versions: ClusterRegistry, clock: Clock) -> None:
    versions.listed()
    versions.heard()
    assert ask(versions).state == "not-found"

    clock.now += 101

    assert ask(versions).state == "unavailable"


def test_a_revoked_version_stays_revoked_while_nothing_is_heard(versions: ClusterRegistry, clock: Clock) -> None:
    versions.put(version_of("resnet50", "3", entry("production", "ada", "revoked")))
    versions.listed()
    versions.heard()
    clock.now += 500

    assert ask(versions).state == "revoked"


def test_objects_of_manifests_do_not_age(versions: ClusterRegistry, clock: Clock) -> None:
    versions.put(approved())
    versions.listed()
    clock.now += 1_000_000

    assert ask(versions).freshness == "fresh"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(cluster, "_FIRST_PAUSE_SECONDS", 0.02)
    with ApiServer() as server:
        server.lists = lambda _query: page([approved()], "20")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def watch(api: ApiServer, versions: ClusterRegistry) -> Iterator[ClusterWatch]:
    configuration = Configuration(host=f"http://127.0.0.1:{api.server_address[1]}")
    configuration.retries = False
    kinds = tuple(one for one in governance_kinds("tidewaiter") if one.kind == "ModelVersion")
    with ApiClient(configuration) as client:
        found = ClusterWatch(client, GovernanceState(versions, PolicyExceptions("tidewaiter")), kinds)
        found.start()
        wait_until(lambda: api.watched, "the watch")
        yield found
        found.stop()
        api.lists = lambda _query: page([approved()], "20")
        for _ in range(10):
            api.events.put(BOOKMARK)
            api.events.put(None)
        for thread in [one for one in threading.enumerate() if one.name.startswith("watch-")]:
            thread.join(10)
        client.rest_client.pool_manager.clear()


@pytest.mark.usefixtures("watch")
def test_a_bookmark_keeps_a_quiet_watch_fresh(api: ApiServer, versions: ClusterRegistry, clock: Clock) -> None:
    clock.now += 500
    assert ask(versions).freshness == "stale"

    api.events.put(BOOKMARK)

    wait_until(lambda: ask(versions).freshness == "fresh", "the bookmark to count")
    assert api.listed == 1


@pytest.mark.usefixtures("watch")
def test_a_watch_that_is_cut_off_and_cannot_begin_again_is_not_heard(
    api: ApiServer, versions: ClusterRegistry, clock: Clock
) -> None:
    for _ in range(4):
        api.failures.put(500)
    # What is no JSON ends the handler in the middle of the stream: the connection is cut.
    api.events.put({"type": "ADDED", "object": {"metadata": {}}})
    clock.now += 101
    wait_until(api.failures.empty, "the failures to be met")

    assert ask(versions).freshness == "stale"

    clock.now += 1000
    assert ask(versions).freshness == "unavailable"

    def heard() -> bool:
        api.events.put(BOOKMARK)  # the server's end of the old watch takes some
        return ask(versions).freshness == "fresh"

    wait_until(heard, "the watch to be heard again")


@pytest.mark.usefixtures("watch")
def test_a_new_list_is_heard(api: ApiServer, versions: ClusterRegistry, clock: Clock) -> None:
    clock.now += 2000
    assert ask(versions).freshness == "unavailable"
    api.lists = lambda _query: page([version_of("resnet50", "3", entry("production", "ada", "revoked"))], "70")

    api.events.put(event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))

    wait_until(lambda: ask(versions).state == "revoked", "the second list")
    assert ask(versions).freshness == "fresh"
