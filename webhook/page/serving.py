"""The page as the process serves it: an application, where it listens, and how it ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from starlette.applications import Starlette

from webhook.page.app import Page, page_app
from webhook.page.settings import PageSettings
from webhook.tls import server_context


@dataclass(frozen=True, slots=True)
class ServedPage:
    """``end`` closes open streams and lets go of the records."""

    app: Starlette
    context: ssl.SSLContext | None
    address: str
    port: int
    end: Callable[[], None]

    def url(self, port: int) -> str:
        """Where it is to be found."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'http' if self.context is None else 'https'}://{host}:{port}/"


def served_page(page: Page, settings: PageSettings) -> ServedPage:
    """The page with its own certificate; raises ``ValueError`` where that cannot be used."""
    context = None
    if settings.certificate is not None and settings.key is not None:
        context = server_context(settings.certificate, settings.key)
    return ServedPage(page_app(page), context, settings.address, settings.port, page.close)
