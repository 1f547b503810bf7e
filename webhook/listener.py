"""A uvicorn server with the options that every one of ours has."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from webhook.http_protocol import bounded_protocol

_KEEP_ALIVE_SECONDS = 120
"""Longer than the 90 seconds after which the API server gives an idle connection up: it,
not we, closes first, and no request meets a closed connection."""
_GRACE_SECONDS = 30
"""How long requests in flight may take to end; no review may take longer (the API server's limit)."""


class Listener(uvicorn.Server):
    """A server that leaves signals to the process, which has several of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def listener(app: Starlette, context: ssl.SSLContext | None, read_seconds: float) -> Listener:
    """A server for ``app``, with TLS where there is a context; its sockets are handed to ``serve``."""
    return Listener(
        uvicorn.Config(
            app,
            http=bounded_protocol(read_seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
    )
