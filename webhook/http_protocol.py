"""uvicorn's HTTP protocol with limits on how long a client may take.

uvicorn has none: a client that sends a byte a minute would hold its connection for ever.
The TLS handshake's limit is the loop's, the head's is the protocol's, the body's is the
application's.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FAREWELL_SECONDS = 1.0


class BoundedHttpToolsProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is not complete after ``head_seconds``."""

    head_seconds: ClassVar[float]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the clock."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._head_is_here()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the clock again, for the next request of the connection."""
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock: the head is here."""
        self._head_is_here()
        super().on_headers_complete()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def _head_is_here(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        self._head = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded_protocol(head_seconds: float) -> type[BoundedHttpToolsProtocol]:
    """The protocol class for one limit, in seconds."""
    return type("BoundedHttpToolsProtocol", (BoundedHttpToolsProtocol,), {"head_seconds": head_seconds})


class BoundedLoop(uvloop.Loop):
    """A loop whose TLS servers wait ``handshake_seconds`` for a handshake, and a second for a farewell.

    asyncio's own limits are 60 and 30 seconds, and uvicorn passes none on. An idle client
    mostly answers no farewell, and would hold up the end of the process.
    """

    handshake_seconds: float

    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's, with the limits where it speaks TLS."""
        if options.get("ssl") is not None:
            options |= {"ssl_handshake_timeout": self.handshake_seconds, "ssl_shutdown_timeout": _FAREWELL_SECONDS}
        return await super().create_server(*arguments, **options)


def bounded_loop(handshake_seconds: float) -> BoundedLoop:
    """An event loop with one limit, in seconds."""
    loop = BoundedLoop()
    loop.handshake_seconds = handshake_seconds
    return loop
