"""A registry of manifests beside a running service, that fails as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator

from tests.registries.http_server import Reply, Request, Server, reply, serving

LIMIT_S = 20.0
Answer = Callable[[Request], Reply | Awaitable[Reply]]


class RegistryServer:
    """``answer`` may be changed while it runs; every request is answered by the one of that moment."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        self._server = server
        self._loop = loop
        self.answer = answer

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    @property
    def requests(self) -> list[Request]:
        """What it was asked so far."""
        return list(self._server.requests)

    def kill(self) -> None:
        """Stop listening and drop every connection."""
        asyncio.run_coroutine_threadsafe(self._server.kill(), self._loop).result(LIMIT_S)

    def cut(self) -> None:
        """Drop every connection, and go on listening."""
        asyncio.run_coroutine_threadsafe(self._server.cut(), self._loop).result(LIMIT_S)


@contextlib.contextmanager
def registry_server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[RegistryServer]:
    """Serve on a thread of its own."""
    started, ended = threading.Event(), asyncio.Event()
    found: list[RegistryServer] = []
    runner = asyncio.Runner()
    loop = runner.get_loop()

    async def serve() -> None:
        async with serving(lambda request: found[0].answer(request), tls) as server:
            found.append(RegistryServer(server, loop, answer))
            started.set()
            await ended.wait()

    def run() -> None:
        with runner:  # ends what still waits, too
            runner.run(serve())

    thread = threading.Thread(target=run, name="registry", daemon=True)
    thread.start()
    assert started.wait(LIMIT_S), "the registry did not start"
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(LIMIT_S)


def silent(_request: Request) -> Reply:
    """No answer, and the connection stays open."""
    return None


def garbage(_request: Request) -> Reply:
    """An answer that is no manifest."""
    return reply(b"<html>proxy login</html>")


def failing(_request: Request) -> Reply:
    """The server's own error."""
    return reply(b"out of disk", "500 Internal Server Error")
