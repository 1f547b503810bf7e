"""The page on a port of this machine, with a cluster that is played, and a client without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

from admission.namespace import Namespace
from admission.policy_exception import PolicyException
from audit.sql_records import SqlRecords
from audit.sqlite_records import SqliteRecords
from registries.chain import RegistryChain
from tests.audit.sealed import KEY, public
from tests.page.seeded import NOW
from webhook.access_review import AccessQuestion, AccessReviews
from webhook.listener import listener
from webhook.page.access import Access, ClusterAccess
from webhook.page.app import Page, namespace_names, page_app
from webhook.page.facts import Facts
from webhook.page.identity import ClusterVisibility, Identity, TokenReviews
from webhook.page.live import Streams
from webhook.page.reading import Reading
from webhook.page.sessions import Sessions
from webhook.policy_engines import PolicyEngines
from webhook.settings import Settings

AUDITOR, ALPHA, NOBODY = "token-of-the-auditor", "token-of-alpha", "token-of-nobody"
LIMIT_S = 20.0


@dataclass
class Cluster:
    """Who has which token, and who may get the decisions of which namespaces; "" is all."""

    tokens: dict[str, str] = field(default_factory=lambda: {AUDITOR: "auditor", ALPHA: "alice", NOBODY: "noel"})
    roles: dict[str, set[str]] = field(default_factory=lambda: {"auditor": {""}, "alice": {"alpha"}})
    asked: list[AccessQuestion] = field(default_factory=list)
    down: bool = False

    def review(self, token: str) -> Identity | None:
        """A TokenReview."""
        if self.down:
            raise OSError("no route to host")
        user = self.tokens.get(token)
        return None if user is None else Identity(user, ("system:authenticated",))

    def ask(self, question: AccessQuestion) -> bool:
        """A SubjectAccessReview."""
        if self.down:
            raise OSError("no route to host")
        self.asked.append(question)
        right = (question.verb, question.group, question.resource) == ("get", "tidewaiter.dev", "decisions")
        allowed = self.roles.get(question.username, set())
        return right and ("" in allowed or (question.namespace != "" and question.namespace in allowed))


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    text: str


class Client:
    """Asks with a bearer token, a cookie, or neither."""

    def __init__(self, port: int, token: str = "", cookie: str = "") -> None:
        self._port = port
        self._headers = {"Accept": "text/html"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        if cookie:
            self._headers["Cookie"] = cookie

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request on a connection of its own."""
        return self._send(method, path, None, headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Reply:
        """A form."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._send("POST", path, urlencode(fields).encode(), sent)

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT_S)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {**self._headers, **named})
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read().decode())

    @contextlib.contextmanager
    def stream(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """An answer that does not end."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT_S)) as connection:
            connection.request("GET", path, headers=self._headers)
            yield connection.getresponse()


def facts(exceptions: tuple[PolicyException, ...] = ()) -> Facts:
    """Rules of the settings' defaults, a few exceptions, and team labels."""
    engine = SimpleNamespace(rules={}, revision="p1")
    policies = cast("PolicyEngines", SimpleNamespace(engine=engine, stores=[]))
    given = exceptions or tuple(
        PolicyException(
            name=f"{namespace}-until-migrated", rules=("image-pinned",), namespaces=(namespace,),
            expires=NOW + timedelta(days=2), reason=f"{namespace} moves its images", ticket=f"OPS-{namespace}",
        )
        for namespace in ("alpha", "bravo")
    )  # fmt: skip
    teams = {"alpha": "vision", "bravo": "bravo-team"}
    return Facts(
        Settings(),
        policies,
        RegistryChain([]),
        lambda: given,
        lambda name: Namespace(name, {"team": teams[name]}, {}) if name in teams else None,
    )


def page_of(
    open_records: Callable[[], SqlRecords],
    cluster: Cluster,
    *,
    access: Access | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
    facts_of: Facts | None = None,
    **more: Any,
) -> Page:
    """A page over records; what a cluster says is forgotten at once, so that a test can change its mind."""
    reading = Reading(open_records)
    ticks = iter(range(0, 10**9, 1000))
    forgetting: Callable[[], float] = lambda: float(next(ticks))  # noqa: E731
    visibility = ClusterVisibility(AccessReviews(cluster.ask, forgetting), lambda: namespace_names(reading), forgetting)
    return Page(
        reading=reading,
        access=access or ClusterAccess(TokenReviews(cluster.review, forgetting), visibility),
        facts=facts_of or facts(),
        keys=public(KEY),
        sessions=Sessions(3600),
        streams=Streams(),
        secure=False,
        clock=clock,
        **more,
    )


@contextlib.contextmanager
def served(page: Page) -> Iterator[int]:
    """The page on a thread of its own; yields the port."""
    server = listener(page_app(page), None, 5)
    bound = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), daemon=True)
    thread.start()
    try:
        yield int(bound.getsockname()[1])
    finally:
        page.close()
        server.should_exit = server.force_exit = True
        thread.join(timeout=30)
        bound.close()


def sqlite_page(path: Path, cluster: Cluster, **more: Any) -> Page:
    """A page over a SQLite file."""
    return page_of(lambda: SqliteRecords(path), cluster, **more)
