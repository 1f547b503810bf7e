"""The cluster network in one process: an HTTP CONNECT proxy on a Unix socket.

The API server's egress selector sends every connection to a Service through it, as
`CONNECT <clusterIP>:<port>`. The proxy looks that address up among its routes and pipes
the bytes to a local process, so webhooks are registered by `service:` exactly as in a
cluster.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

Address = tuple[str, int]
Result = TypeVar("Result")

CALL_LIMIT_S = 10.0
DIAL_LIMIT_S = 5.0
CHUNK_BYTES = 64 * 1024


class EgressProxy:
    """Runs in a thread of its own; its methods may be called from any other thread."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self._routes: dict[str, Address] = {}
        self._tunnels: dict[str, set[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="egress-proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen on the socket; returns when connections are accepted."""
        self._thread.start()
        self._server = self._call(asyncio.start_unix_server(self._serve, self.socket_path))

    def close(self) -> None:
        """Stop listening, cut every tunnel and end the thread."""
        if self._thread.is_alive():
            self._call(self._shut_down())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_LIMIT_S)
        self._loop.close()

    def route(self, destination: str, address: Address) -> None:
        """Send connections for `destination` ("10.96.0.7:443") to `address` from now on.

        Tunnels to the previous address are cut: the API server keeps its connections
        alive, and would go on talking to the old process.
        """
        self._call(self._reroute(destination, address))

    def unroute(self, destination: str) -> None:
        """Refuse connections for `destination` from now on, and cut those that exist."""
        self._call(self._reroute(destination, None))

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_LIMIT_S)

    async def _reroute(self, destination: str, address: Address | None) -> None:
        if address is None:
            self._routes.pop(destination, None)
        else:
            self._routes[destination] = address
        for writer in self._tunnels.pop(destination, set()):
            writer.transport.abort()

    async def _shut_down(self) -> None:
        if self._server is not None:
            self._server.close()
        tunnels = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tunnels:
            task.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError), contextlib.closing(writer):
            destination = await _read_connect(reader)
            try:
                upstream = await self._dial(destination)
            except OSError as error:
                await _answer(writer, f"502 {' '.join(str(error).split())}")
                return
            with contextlib.closing(upstream[1]):
                await _answer(writer, "200 Connection established")
                await self._tunnel(destination, (reader, writer), upstream)

    async def _dial(self, destination: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._routes.get(destination)
        if address is None:
            raise ConnectionRefusedError(f"no process is registered for {destination}")
        async with asyncio.timeout(DIAL_LIMIT_S):
            return await asyncio.open_connection(*address)

    async def _tunnel(
        self,
        destination: str,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        ends = {client[1], upstream[1]}
        tunnels = self._tunnels.setdefault(destination, set())
        tunnels |= ends
        try:
            await asyncio.gather(_pipe(client[0], upstream[1]), _pipe(upstream[0], client[1]))
        finally:
            tunnels -= ends


async def _read_connect(reader: asyncio.StreamReader) -> str:
    """The destination that a CONNECT request names."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(maxsplit=2)[1].decode("ascii")


async def _answer(writer: asyncio.StreamWriter, status: str) -> None:
    # The API server repeats the status line in its "failed calling webhook" error.
    writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
    await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either end closes, then close the other: TLS needs no half-open tunnel."""
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
