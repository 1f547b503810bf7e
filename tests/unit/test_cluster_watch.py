"""Following a cluster, against a small server that speaks lists and watches as the API server does."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes.client import ApiClient, Configuration

from tests.controlplane.waiting import wait_until
from webhook import cluster
from webhook.cluster import KINDS, ClusterUnavailableError, ClusterWatch
from webhook.cluster_state import ClusterState

NAMESPACES = "/api/v1/namespaces"
Query = dict[str, str]


class ApiServer(ThreadingHTTPServer):
    """`lists` answers a list by its query; a watch gets what `events` are put, until None ends it.

    `answers` are statuses to fail with, one for each request, before anything else.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lists: Callable[[Query], dict[str, Any]] = lambda _query: page([], "10")
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.failures: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.seen: list[Query] = []

    @property
    def watched(self) -> list[str]:
        """The resource versions that watches began at."""
        return [one["resourceVersion"] for one in self.seen if "watch" in one]

    @property
    def listed(self) -> int:
        """How many lists were asked for."""
        return sum("watch" not in one for one in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiServer

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.seen.append({"path": urlsplit(self.path).path, **query})
        try:
            self._fail(self.server.failures.get_nowait())
        except queue.Empty:
            if "watch" in query:
                self._watch()
            else:
                self._whole(200, self.server.lists(query))

    def _fail(self, status: int) -> None:
        self._whole(status, {"kind": "Status", "code": status})

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def _watch(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        goes_on = True
        while goes_on and (event := self.server.events.get()) is not None:
            goes_on = event["type"] != "ERROR"
            line = json.dumps(event).encode() + b"\n"
            # In two halves: an event may come in pieces.
            for part in (line[:20], line[20:]):
                self._write(b"%x\r\n%s\r\n" % (len(part), part))
        self._write(b"0\r\n\r\n")

    def _write(self, chunk: bytes) -> None:
        with contextlib.suppress(OSError):  # the client may be gone
            self.wfile.write(chunk)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


def namespace(name: str, version: str = "11", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version, "labels": labels}}


def page(items: list[dict[str, Any]], version: str, following: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version, "continue": following}, "items": items}


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": obj}


GONE = event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(cluster, "_FIRST_PAUSE_SECONDS", 0.02)
    with ApiServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def state() -> ClusterState:
    return ClusterState()


@pytest.fixture
def client(api: ApiServer) -> Iterator[ApiClient]:
    configuration = Configuration(host=f"http://127.0.0.1:{api.server_address[1]}")
    configuration.retries = False
    with ApiClient(configuration) as found:
        yield found
        found.rest_client.pool_manager.clear()


@pytest.fixture
def watch(api: ApiServer, client: ApiClient, state: ClusterState) -> Iterator[ClusterWatch]:
    found = ClusterWatch(client, state, tuple(one for one in KINDS if one.kind == "Namespace"))
    yield found
    found.stop()
    threads = [one for one in threading.enumerate() if one.name.startswith("watch-")]
    for _ in range(10):
        # An event to wake the thread with, an end for its watch.
        api.events.put(event("BOOKMARK", namespace("", "99")))
        api.events.put(None)
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_it_is_synced_once_everything_is_listed(api: ApiServer, watch: ClusterWatch, state: ClusterState) -> None:
    api.lists = lambda _query: page([namespace("a", team="x"), namespace("b")], "20")
    assert watch.missing == ["Namespace"]

    watch.start()
    wait_until(lambda: not watch.missing, "the list")

    found = state.namespace("a")
    assert found is not None
    assert found.labels == {"team": "x"}
    wait_until(lambda: api.watched == ["20"], "the watch to begin where the list ended")


def test_a_long_list_comes_in_pages(api: ApiServer, watch: ClusterWatch, state: ClusterState) -> None:
    pages = {"": page([namespace("a")], "20", "t-1"), "t-1": page([namespace("b")], "20", "t-2"), "t-2": page([namespace("c")], "20")}  # fmt: skip
    api.lists = lambda query: pages[query.get("continue", "")]

    watch.start()
    wait_until(lambda: not watch.missing, "the list")

    assert all(state.namespace(name) for name in "abc")
    assert api.seen[0]["limit"] == "500"


def test_changes_are_taken_in(api: ApiServer, watch: ClusterWatch, state: ClusterState) -> None:
    api.lists = lambda _query: page([namespace("a")], "20")
    watch.start()

    api.events.put(event("ADDED", namespace("b", "21")))
    api.events.put(event("MODIFIED", namespace("a", "22", team="y")))
    api.events.put(event("DELETED", namespace("b", "23")))
    api.events.put(event("ADDED", namespace("c", "24")))
    wait_until(lambda: state.namespace("c"), "the last change")

    changed = state.namespace("a")
    assert changed is not None
    assert changed.labels == {"team": "y"}
    assert state.namespace("b") is None


def test_a_watch_that_ends_goes_on_at_the_last_version_without_a_list(api: ApiServer, watch: ClusterWatch) -> None:
    watch.start()
    api.events.put(event("ADDED", namespace("a", "31")))
    api.events.put(event("BOOKMARK", {"metadata": {"resourceVersion": "45"}}))
    api.events.put(None)

    wait_until(lambda: api.watched == ["10", "45"], "the second watch")

    assert api.listed == 1


@pytest.mark.parametrize("how", ["in the watch", "instead of a watch"])
def test_a_version_that_is_gone_is_listed_again(
    api: ApiServer, watch: ClusterWatch, state: ClusterState, how: str
) -> None:
    api.lists = lambda _query: page([namespace("a"), namespace("b")], "20")
    watch.start()
    wait_until(lambda: api.watched, "the watch")

    api.lists = lambda _query: page([namespace("b"), namespace("c")], "70")
    if how == "in the watch":
        api.events.put(GONE)
    else:
        api.failures.put(410)
    api.events.put(None)
    wait_until(lambda: state.namespace("c"), "the second list")

    wait_until(lambda: state.namespace("a") is None, "what the list does not have to be forgotten")
    wait_until(lambda: api.watched[-1] == "70", "the watch from the second list on")
    assert api.listed == 2


def test_failures_are_waited_out_longer_and_longer(
    api: ApiServer, watch: ClusterWatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        api.failures.put(500)

    with caplog.at_level(logging.WARNING):
        watch.start()
        wait_until(lambda: not watch.missing, "the list after the failures")

    pauses = [float(found) for found in re.findall(r"again in ([\d.]+) s", caplog.text)]
    assert len(pauses) == 4
    for turn, pause in enumerate(pauses):
        most = 0.02 * 2**turn
        assert most / 2 - 0.01 <= pause <= most + 0.01
    assert "Internal Server Error" in caplog.text


def test_a_watch_that_ends_at_once_is_no_flood_of_requests(
    api: ApiServer, watch: ClusterWatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        api.events.put(None)

    with caplog.at_level(logging.WARNING):
        watch.start()
        wait_until(lambda: len(api.watched) == 4, "the fourth watch")

    assert caplog.text.count("the watch ended at once") == 3
    assert api.watched == ["10"] * 4
    assert api.listed == 1


def test_a_version_that_is_gone_again_and_again_is_no_flood_of_lists(
    api: ApiServer, watch: ClusterWatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        api.events.put(GONE)

    with caplog.at_level(logging.WARNING):
        watch.start()
        wait_until(lambda: api.listed == 4, "the fourth list")

    assert caplog.text.count("the resource version is too old") == 3


def test_a_connection_that_breaks_in_the_middle_goes_on(
    api: ApiServer, watch: ClusterWatch, state: ClusterState
) -> None:
    watch.start()
    api.events.put(event("ADDED", namespace("a", "31")))
    wait_until(lambda: state.namespace("a"), "the first event")
    # What is no JSON ends the handler in the middle of the stream.
    api.events.put({"type": "ADDED", "object": {"metadata": {}}})

    wait_until(lambda: api.watched == ["10", "31"], "the watch to go on at the last version")


@pytest.mark.parametrize("status", [404, 403])
def test_an_optional_kind_that_the_cluster_lacks_is_not_waited_for(
    api: ApiServer, client: ApiClient, state: ClusterState, status: int
) -> None:
    watch = ClusterWatch(client, state, tuple(one for one in KINDS if one.optional)[:1])
    api.failures.put(status)
    watch.start()
    try:
        wait_until(lambda: not watch.missing, "the kind not to be missed")
    finally:
        watch.stop()
        for _ in range(10):
            api.events.put(None)
    for thread in [one for one in threading.enumerate() if one.name.startswith("watch-")]:
        thread.join(10)


def test_one_namespace_is_read_straight(api: ApiServer, client: ApiClient, state: ClusterState) -> None:
    api.lists = lambda _query: namespace("new", team="x")

    found = ClusterWatch(client, state).read_namespace("new")

    assert found is not None
    assert (found.name, found.labels) == ("new", {"team": "x"})
    assert api.seen[0]["path"] == f"{NAMESPACES}/new"


def test_a_namespace_that_there_is_not_is_none(api: ApiServer, client: ApiClient, state: ClusterState) -> None:
    api.failures.put(404)

    assert ClusterWatch(client, state).read_namespace("new") is None


def test_a_namespace_that_cannot_be_read_is_an_error(api: ApiServer, client: ApiClient, state: ClusterState) -> None:
    api.failures.put(500)

    with pytest.raises(ClusterUnavailableError, match="namespace new cannot be read"):
        ClusterWatch(client, state).read_namespace("new")
