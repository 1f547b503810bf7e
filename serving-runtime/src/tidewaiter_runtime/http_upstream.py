"""Kept-alive HTTP connections to the model server, one request at a time on each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

_OWN_HEADERS = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"trailer", b"te")
)


class UpstreamFailed(Exception):  # noqa: N818  # an outcome for the caller
    """The model server did not answer, or not with HTTP."""


@dataclass(slots=True)
class Answer:
    """What the model server answered; headers without those of the connection."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class _Connection(asyncio.Protocol):
    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._parts: list[bytes] = []
        self._size = 0
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods and not the class
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[Answer]:
        assert self._transport is not None  # noqa: S101  # connection_made comes before
        self._waiting = asyncio.get_running_loop().create_future()
        self._answer, self._parts, self._size = Answer(), [], 0
        self._transport.writelines((head, body)) if body else self._transport.write(head)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("the model server's answer is not HTTP")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in _OWN_HEADERS:
            self._answer.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._largest:
            self._fail(f"the model server's answer has more than {self._largest} bytes")
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._answer.status = status
        self._answer.body = b"".join(self._parts)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)
        self._waiting = None

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._fail("the model server closed the connection")

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def _fail(self, reason: str) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(UpstreamFailed(reason))
        self._waiting = None


class Upstream:
    """The model server at ``host`` and ``port``. Connections that a caller no longer waits for are closed."""

    def __init__(self, host: str, port: int, *, largest_answer: int = 256 << 20, limit_s: float = 60.0) -> None:
        self._host = host
        self._port = port
        self._largest = largest_answer
        self._limit_s = limit_s
        self._idle: list[_Connection] = []

    async def ask(self, method: str, target: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
        """One request.

        Raises:
            UpstreamFailed: with a sentence; nothing is asked twice, since an inference may have had its effect.
            TimeoutError: no answer within the limit.
        """
        connection = await self._connection()
        lines = [f"{method} {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n".encode()]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if body or method == "POST":
            lines.append(b"Content-Length: %d\r\n" % len(body))
        lines.append(b"\r\n")
        try:
            async with asyncio.timeout(self._limit_s):
                answer = await connection.ask(b"".join(lines), body)
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the connections that are idle."""
        for one in self._idle:
            one.close()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            found = self._idle.pop()
            if found.usable:
                return found
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._largest), self._host, self._port
            )
        except OSError:
            raise UpstreamFailed("the model server cannot be reached") from None
        return connection
