"""Everything that can be wrong with a registry behind a network, for tests and for the benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tests.controlplane import certificates
from tests.http.registry_server import Answer, RegistryServer, registry_server
from tests.registries.http_server import Reply, Request, reply
from tests.registries.played import good

DEADLINE_S = 0.5
"""Of a question, in the settings of whoever asks."""
SECRET = "hidden-word-of-the-server"  # it opens nothing


@dataclass(frozen=True)
class Played:
    """One registry that can break, and the certificate that it shows."""

    server: RegistryServer
    tls: ssl.SSLContext
    expired: certificates.KeyPair

    def show_expired_certificate(self) -> None:
        """To whoever connects from now on; everybody has to."""
        self.tls.load_cert_chain(self.expired.certificate, self.expired.key)
        self.server.cut()


def answering(answer: Callable[[Request], Any]) -> Callable[[Played], None]:
    """The fault that is an answer."""
    return lambda it: setattr(it.server, "answer", answer)


async def _late(request: Request) -> Reply:
    await asyncio.sleep(6 * DEADLINE_S)
    return good(request)


@dataclass(frozen=True)
class Fault:
    """How it begins, and what is then said of a version that was known and of one that was not."""

    begin: Callable[[Played], None]
    cause: str
    reason: str
    new_cause: str = ""
    new_reason: str = ""


FAULTS = {
    "killed": Fault(lambda it: it.server.kill(), "refused", "cannot be reached"),
    "silent": Fault(answering(lambda _: None), "deadline", "did not answer in time"),
    "slower than the deadline": Fault(answering(_late), "deadline", "did not answer in time"),
    "garbage": Fault(answering(lambda _: reply(SECRET.encode())), "garbage", "answers with what is not JSON"),
    "10 MiB": Fault(answering(lambda _: reply(b" " * (10 << 20))), "too-large", "answers with more than 1024 KiB"),
    "redirects": Fault(
        answering(lambda _: reply(b"", "302 Found", Location=f"http://169.254.169.254/{SECRET}")),
        "redirect",
        "answers with a redirect, which is not followed",
    ),
    "429 with Retry-After": Fault(
        answering(lambda _: reply(SECRET.encode(), "429 Too Many Requests", Retry_After="3600")),
        "throttled",
        "asks us to wait (too many requests)",
        "open",
        "has failed and is left alone for a while",
    ),
    "TLS certificate expired": Fault(
        Played.show_expired_certificate, "tls", "is not believed: its TLS certificate cannot be verified"
    ),
}


@contextlib.contextmanager
def played_registries(
    authority: certificates.Authority, kinds: tuple[str, ...], answer: Answer = good
) -> Iterator[Mapping[str, Played]]:
    """One server for each kind, over TLS, all of them well."""
    with contextlib.ExitStack() as ending:
        pair = authority.issue("registry", "registry", addresses=["127.0.0.1"])
        past = {"CLOCK_SKEW": datetime.timedelta(days=2), "LIFETIME": -datetime.timedelta(days=1)}
        with mock.patch.multiple(certificates, **past):
            expired = authority.issue("expired", "registry", addresses=["127.0.0.1"])
        found: dict[str, Played] = {}
        for kind in kinds:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pair.certificate, pair.key)
            found[kind] = Played(ending.enter_context(registry_server(answer, tls)), tls, expired)
        yield found
