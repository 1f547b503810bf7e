"""A small HTTP server, in the test's own loop, that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Reply = bytes | None
"""Everything that is sent, status line and all; None: nothing, and the connection stays open."""


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """Where it listens, and what it was asked."""

    port: int
    scheme: str
    requests: list[Request] = field(default_factory=list)
    served: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        """Stop listening and drop every connection."""
        assert self.served is not None
        self.served.close()
        await self.cut()

    async def cut(self) -> None:
        """Drop every connection."""
        for writer in list(self.open):
            writer.transport.abort()

    open: set[asyncio.StreamWriter] = field(default_factory=set)


def reply(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A reply; an underscore in a header's name is a hyphen."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if not any(name.lower() == "content_length" for name in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(
    answer: Callable[[Request], Reply | Awaitable[Reply]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve on a free port of 127.0.0.1."""
    server = Server(0, "https" if tls else "http")
    ended = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.open.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                server.requests.append(request)
                said = answer(request)
                said = await said if isinstance(said, Awaitable) else said
                if said is None:
                    await ended.wait()
                    return
                writer.write(said)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the end of the test; asyncio 3.11 complains of a connection that was cancelled
        finally:
            server.open.discard(writer)
            writer.close()

    server.served = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    server.port = server.served.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        ended.set()
        await server.kill()
        await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)
