"""The running process: its two servers, what is refreshed beside them, and their end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from registries.chain import RegistryChain
from webhook.app import health_app, webhook_app
from webhook.cluster import ClusterWatch
from webhook.listener import listener
from webhook.policy_engines import PolicyEngines
from webhook.reviewer import Reviewer
from webhook.settings import Settings

if TYPE_CHECKING:
    from webhook.page.serving import ServedPage

_LOG = logging.getLogger("tidewaiter")


class Process:
    """The two servers, what is refreshed beside them, and their end."""

    def __init__(
        self,
        settings: Settings,
        reviewer: Reviewer,
        watches: Sequence[ClusterWatch],
        registries: RegistryChain,
        policies: PolicyEngines,
        context: ssl.SSLContext,
        routes: Sequence[Route],
        page: ServedPage | None = None,
    ) -> None:
        self._server = settings.server
        self._policies = policies
        self._watches = tuple(watches)
        self._registries = registries
        self._metrics = reviewer.metrics
        self._ending = asyncio.Event()
        read_seconds = self._server.read_seconds
        self._webhook = listener(webhook_app(reviewer, self._missing, read_seconds, routes), context, read_seconds)
        self._health = listener(health_app(reviewer.metrics, self._missing), None, read_seconds)
        self._page = page
        self._listeners = [self._webhook, self._health]
        if page is not None:
            self._listeners.append(listener(page.app, page.context, read_seconds))

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self._end)
        sockets = [_bound(self._server.address, port) for port in (self._server.port, self._server.health_port)]
        if self._page is not None:
            sockets.append(_bound(self._page.address, self._page.port, "page.port"))
        servers = [
            asyncio.create_task(listener.serve([bound]))
            for listener, bound in zip(self._listeners, sockets, strict=True)
        ]
        refresh = self._in_background("keeping approvals fresh", self._registries.run())
        follow = self._in_background("following policies", self._policies.follow())
        ended = asyncio.create_task(self._ending.wait())
        webhook_port, health_port, *page_port = (bound.getsockname()[1] for bound in sockets)
        _LOG.warning("listening on :%d (TLS) and :%d (health, metrics)", webhook_port, health_port)
        if self._page is not None:
            _LOG.warning("decisions are shown on %s", self._page.url(*page_port))
        await asyncio.wait([*servers, ended], return_when=asyncio.FIRST_COMPLETED)
        if self._ending.is_set():
            await self._drain(servers)
        for task in (refresh, follow, ended):
            task.cancel()
        for one in self._listeners:
            one.should_exit = True
        await asyncio.gather(*servers)

    def _in_background(self, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside the servers; that it went wrong must not stay untold."""

        def told(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                _LOG.error("%s ended: %s", what, error, exc_info=error)

        task = asyncio.create_task(work)
        task.add_done_callback(told)
        return task

    def _end(self) -> None:
        if self._ending.is_set():
            # Asked twice: whoever asks does not want to wait.
            for one in self._listeners:
                one.should_exit = one.force_exit = True
        self._ending.set()
        if self._page is not None:
            # Its streams have no end of their own.
            self._page.end()

    async def _drain(self, servers: list[asyncio.Task[None]]) -> None:
        """Not ready any more, but still answering, until no endpoint leads here."""
        _LOG.warning("ending: answering for another %g s", self._server.drain_seconds)
        await asyncio.wait(servers, timeout=self._server.drain_seconds, return_when=asyncio.FIRST_COMPLETED)

    def _missing(self) -> list[str]:
        missing = ["the process is ending"] if self._ending.is_set() else []
        missing += [f"not listed yet: {kind}" for watch in self._watches for kind in watch.missing]
        return missing


def _bound(address: str, port: int, names: str = "server.port and server.healthPort") -> socket.socket:
    """A listening socket; uvicorn itself would end the process where it cannot have one."""
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {address} port {port}: {error.strerror}; end what listens there, or set {names}"
        ) from None
