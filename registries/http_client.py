"""HTTP to one registry: bounded, without redirects, proxies or cookies, to checked addresses only.

Everything that goes wrong is a ``RegistryError`` whose text holds nothing of what was sent.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import yarl

from registries.addresses import refused_host
from registries.places import URL
from registries.registry import RegistryError
from registries.resolver import CheckedResolver, LookUp
from registries.stamps import stamp

MAX_BYTES = 1024 * 1024
_CHUNK = 64 * 1024
_CONNECTIONS = 16
_REDIRECTS = range(300, 400)
_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it goes out, for whoever authorizes it. ``path`` is encoded and has no query."""

    method: str
    host: str
    path: str
    headers: Mapping[str, str]


Authorize = Callable[[Sent], Awaitable[Mapping[str, str]]]
"""Headers that authorize a request; raises ``RegistryError``."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer, its names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def anonymous(_sent: Sent) -> Mapping[str, str]:
    """No credentials."""
    return {}


class HttpClient:
    """Connections to one origin, for the registry ``name``."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        authorize: Authorize = anonymous,
        ca_file: Path | None = None,
        max_bytes: int = MAX_BYTES,
        look_up: LookUp | None = None,
    ) -> None:
        place = URL.read(url)
        self._name = name
        self._origin = place.origin
        self._path = place.path
        self._host = place.origin.partition("://")[2]
        self._refusal = refused_host(place.host)
        self._authorize = authorize
        self._trust = _Trust(name, ca_file) if place.scheme == "https" else None
        self._max_bytes = max_bytes
        self._look_up = look_up
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, path: str, query: str = "", headers: Mapping[str, str] | None = None, expected: Container[int] = ()
    ) -> HttpAnswer:
        """GET an encoded path below the URL; raises ``RegistryError`` for all but 2xx, 304, 404 and 410.

        An answer of a status in ``expected`` comes back too, without its body.
        """
        return await self._send("GET", path, query, headers or {}, None, expected)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """The same with POST."""
        return await self._send("POST", path, "", headers, body)

    async def close(self) -> None:
        """Let connections go."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes | None,
        expected: Container[int] = (),
    ) -> HttpAnswer:
        if self._refusal:
            raise self._error(f"is not asked: its host {self._refusal}", "refused-address")
        path = self._path + path
        sent = Sent(method, self._host, path, headers)
        all_headers = {"accept-encoding": "identity", **headers, **await self._authorize(sent)}
        # The path is encoded already; encoding or tidying it again would name another object.
        url = yarl.URL(f"{self._origin}{path}{f'?{query}' if query else ''}", encoded=True)
        try:
            async with self._opened().request(
                method,
                url,
                headers=all_headers,
                data=body,
                allow_redirects=False,
                ssl=self._trust.context() if self._trust is not None else True,
            ) as response:
                found = {name.lower(): value for name, value in response.headers.items()}
                if response.status in expected:
                    response.close()
                    return HttpAnswer(response.status, found, b"")
                self._refuse_status(response)
                return HttpAnswer(response.status, found, await self._bounded(response))
        except aiohttp.ClientSSLError as error:
            raise self._error("is not believed: its TLS certificate cannot be verified", "tls") from error
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError) as error:
            raise self._error("answers what is not HTTP, or stops in the middle", "garbage") from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise self._error("did not answer in time", "deadline") from error
            raise self._error("cannot be reached", "refused") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(self._name, self._look_up), use_dns_cache=False, limit=_CONNECTIONS
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # nothing is unpacked: a small answer stays small
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=30),  # whoever calls has a shorter deadline
            )
        return self._session

    def _refuse_status(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status in _REDIRECTS and status != _NOT_MODIFIED:
            raise self._error(
                "answers with a redirect, which is not followed; set its url to where it really is", "redirect"
            )
        if status in (429, 503):
            wait = _retry_after(response.headers.get("Retry-After", ""))
            if status == 429 or wait is not None:
                raise self._error("asks us to wait (too many requests)", "throttled", wait if wait is not None else 1.0)
        if status in (401, 403):
            raise self._error("refuses our credentials; check the files that hold them", "denied")
        if status >= 500:
            raise self._error(f"fails (HTTP {status})", "failing")
        if status not in (404, 410, _NOT_MODIFIED) and not 200 <= status < 300:
            raise self._error(f"answers what we do not expect (HTTP {status})", "garbage")

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._error("answers in a packed form that was not asked for", "garbage")
        parts: list[bytes] = []
        size = response.content_length or 0
        if size <= self._max_bytes:
            size = 0
            async for part in response.content.iter_chunked(_CHUNK):
                size += len(part)
                if size > self._max_bytes:
                    break
                parts.append(part)
        if size > self._max_bytes:
            response.close()
            raise self._error(f"answers with more than {self._max_bytes // 1024} KiB", "too-large")
        return b"".join(parts)

    def _error(self, text: str, cause: str, retry_after: float | None = None) -> RegistryError:
        return RegistryError(f"registry {self._name} {text}", cause, retry_after)


class _Trust:
    """Whom TLS trusts; the CA file is read again when it changes."""

    def __init__(self, name: str, ca_file: Path | None) -> None:
        self._name = name
        self._file = ca_file
        self._stamp: object = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        try:
            found = stamp(self._file) if self._file is not None else None
            if self._context is None or found != self._stamp:
                context = ssl.create_default_context(cafile=self._file)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                self._context, self._stamp = context, found
        except (OSError, ssl.SSLError) as error:
            raise RegistryError(
                f"registry {self._name} is not asked: its caFile cannot be read", "credentials"
            ) from error
        return self._context


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
