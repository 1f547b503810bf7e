"""Start-up, ready and live, for probes: Triton's own answer, but not ready from the first moment of a drain.

Triton cannot be told to say that it is not ready and yet to answer requests. This endpoint does:
what routes by readiness leads elsewhere while the server still serves what is on its way.
"""

from __future__ import annotations

import http.client
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

_LIMIT_S = 5.0
_PATHS = {"/live": "/v2/health/live", "/ready": "/v2/health/ready", "/startup": "/v2/health/ready"}


class Health:
    """What the endpoint says."""

    def __init__(self, triton_port: int, address: str) -> None:
        self._port = triton_port
        self._address = address or "127.0.0.1"
        self.draining = threading.Event()

    def answer(self, path: str) -> tuple[int, str]:
        """Status and a word for one path."""
        triton_path = _PATHS.get(path)
        if triton_path is None:
            return 404, f"found {path[:40]}; there are {', '.join(_PATHS)}"
        if self.draining.is_set():
            # A liveness failure would cut the drain short.
            return (200, "draining") if path == "/live" else (503, "draining")
        connection = http.client.HTTPConnection(self._address, self._port, timeout=_LIMIT_S)
        try:
            connection.request("GET", triton_path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 503, "tritonserver does not answer yet"
        finally:
            connection.close()
        return (200, "ok") if status == http.client.OK else (503, f"tritonserver answers {status}")


class _Server(socketserver.ThreadingTCPServer):
    """Of both IP families where nothing narrower was asked for, and without asking DNS for its own name."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        both = not address and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in address else socket.AF_INET
        self._both = both
        super().__init__((address, port), handler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, *_: Any) -> None:
        """A probe that goes away is no news either."""


@contextmanager
def health_endpoint(health: Health, port: int, address: str) -> Iterator[None]:
    """Answer on a port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _LIMIT_S

        def log_message(self, *_: Any) -> None:
            """Probes are no news."""

        def do_GET(self) -> None:
            status, word = health.answer(self.path)
            body = f"{word}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = _Server(address, port, Handler)
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_LIMIT_S)
