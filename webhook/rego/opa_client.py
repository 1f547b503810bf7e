"""``AsyncOpaClient`` with a bounded answer, a CA of one's own and a token that may change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from opa_client.opa_async import AsyncOpaClient  # type: ignore[import-untyped]  # it ships no types

from admission.validator import PolicyError

_PORTS = {"http": 80, "https": 443}
_MAX_ANSWER = 4 * 1024 * 1024
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class OpaServer:
    """Where OPA listens. ``token_file`` is read again when OPA refuses the token."""

    url: str = "http://localhost:8181"
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    connections: int = 32


class OpaAnswerError(Exception):
    """OPA's answer cannot be used; the text is the end of a sentence that begins with OPA."""


@dataclass(frozen=True, slots=True)
class OpaAnswer:
    """One answer: its status and its JSON object."""

    status: int
    document: dict[str, Any]


class BoundedOpaClient(AsyncOpaClient):  # type: ignore[misc]  # opa_client has no types
    """A client of one server, with one pool of connections."""

    _session: aiohttp.ClientSession | None

    def __init__(self, server: OpaServer, timeout: float) -> None:
        parts = urlsplit(server.url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
            raise PolicyError(f"OPA's address {server.url!r} must be like http://host:8181 or https://host:8181")
        super().__init__(
            host=f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname,
            port=parts.port or _PORTS[parts.scheme],
            ssl=parts.scheme == "https",
            retries=0,
            timeout=timeout,
        )
        self._server = server
        self._token = self._read_token()

    async def _init_session(self) -> None:
        """The library's own knows neither a CA file nor a bound on connections."""
        self._connector = aiohttp.TCPConnector(limit=self._server.connections, ssl=self._tls())
        self._session = aiohttp.ClientSession(
            connector=self._connector, timeout=aiohttp.ClientTimeout(total=self.timeout)
        )

    def _tls(self) -> ssl.SSLContext | bool:
        if not self.ssl:
            return True
        try:
            context = ssl.create_default_context(cafile=self._server.ca_file)
            if self._server.certificate is not None:
                context.load_cert_chain(self._server.certificate, self._server.key)
        except (OSError, ssl.SSLError) as error:
            raise PolicyError(f"the certificates for OPA cannot be read: {error}") from None
        return context

    def _read_token(self) -> str:
        if self._server.token_file is None:
            return ""
        try:
            return self._server.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"OPA's token {self._server.token_file} cannot be read: {error}") from None

    async def ask(self, path: str, body: bytes) -> OpaAnswer:
        """Query ``/v1/data/<path>``; raises ``OpaAnswerError`` and ``aiohttp.ClientError``."""
        if self._session is None:
            await self._init_session()
        answer = await self._post(path, body)
        if answer.status == _UNAUTHORIZED and (token := self._read_token()) != self._token:
            self._token = token
            answer = await self._post(path, body)
        return answer

    async def _post(self, path: str, body: bytes) -> OpaAnswer:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        url = f"{self.root_url}/data/{path}?strict-builtin-errors=true&provenance=true"
        async with self._request("POST", url, data=body, headers=headers, allow_redirects=False) as response:
            content = await _bounded(response)
            status: int = response.status
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise OpaAnswerError(f"answered {status} with something else than a JSON object")
        return OpaAnswer(status, document)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        content += chunk
        if len(content) > _MAX_ANSWER:
            response.close()
            raise OpaAnswerError(f"answered more than {_MAX_ANSWER >> 20} MiB")
    return bytes(content)
