"""GET and POST over HTTPS, with redirects of GET, and what each failure means."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from tidewaiter_runtime.preload.source_files import Interrupted
from tidewaiter_runtime.refusals import BadInput, ModelRefused

PIECE = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
_CONNECT_S = 10.0
_SILENT_S = 30.0
"""Seconds without a byte after which a connection counts as cut."""


class WebClient:
    """Connections that are used again, for several threads. Proxies and ``SSL_CERT_FILE`` as usual."""

    def __init__(self, connections: int, authorities: str = "") -> None:
        """``authorities`` is a PEM file that replaces the system's."""
        try:
            self._context = ssl.create_default_context(cafile=authorities or None)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"{authorities} holds no certificates: {error}") from None
        self._connections = connections
        self._pools: dict[str, urllib3.PoolManager] = {}

    def get(
        self, url: str, shown: str, headers: Mapping[str, str], secret: str = "", *, challenge: bool = False
    ) -> urllib3.BaseHTTPResponse:
        """Answer 200, 206 or 416, with its body not yet read; ``shown`` stands for the URL in sentences.

        ``secret`` is the Authorization header, for the host of ``url`` only. ``challenge``: 401 of that host is an
        answer too. Raises ``BadInput`` for what cannot succeed, ``Interrupted`` for what may.
        """
        origin = _origin(url)
        for _ in range(_MOST_REDIRECTS + 1):
            mine = {"Authorization": secret} if secret and _origin(url) == origin else {}
            answer = self._send("GET", url, shown, {"Accept-Encoding": "identity", **headers, **mine})
            if challenge and answer.status == 401 and _origin(url) == origin:
                return answer
            if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                return _judged(answer, shown, credential=bool(secret))
            answer.drain_conn()
            target = urljoin(url, answer.headers["Location"])
            if not target.startswith("https://") and not url.startswith("http://"):
                raise BadInput(f"{shown} redirects away from HTTPS, which is not followed")
            url = target
        raise BadInput(f"{shown} redirects more than {_MOST_REDIRECTS} times")

    def post(self, url: str, shown: str, headers: Mapping[str, str], body: bytes) -> urllib3.BaseHTTPResponse:
        """POST, without following a redirect: what is sent is a secret mostly."""
        return _judged(self._send("POST", url, shown, headers, body), shown, credential=True)

    def _send(
        self, method: str, url: str, shown: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool(url).urlopen(
                method,
                url,
                body=body,
                headers=dict(headers),
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=_SILENT_S),
            )
        except SSLError as error:
            raise BadInput(f"{shown}: no TLS connection that is trusted: {_cause(error)}; see SSL_CERT_FILE") from None
        except HTTPError as error:
            raise Interrupted(f"no connection: {_cause(error)}") from None

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = ""
        if proxy not in self._pools:
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, maxsize=self._connections, ssl_context=self._context)
                if proxy
                else urllib3.PoolManager(maxsize=self._connections, ssl_context=self._context)
            )
        return self._pools[proxy]


def pieces(answer: urllib3.BaseHTTPResponse) -> Iterator[memoryview]:
    """The body, in small pieces; the connection is used again only where the body was read whole."""
    whole = False
    try:
        for piece in answer.stream(PIECE, decode_content=False):
            yield memoryview(piece)
        whole = True
    except (HTTPError, OSError) as error:
        raise Interrupted(f"the connection was cut: {_cause(error)}") from None
    finally:
        if whole:
            answer.release_conn()
        else:
            answer.close()


def body_of(answer: urllib3.BaseHTTPResponse, shown: str, most: int) -> bytes:
    """A small body; raises ``ModelRefused`` where it is larger than ``most`` bytes."""
    content = bytearray()
    for piece in pieces(answer):
        content += piece
        if len(content) > most:
            raise ModelRefused(f"{shown}: the answer is larger than {most:,} bytes")
    return bytes(content)


def _judged(answer: urllib3.BaseHTTPResponse, shown: str, *, credential: bool) -> urllib3.BaseHTTPResponse:
    if answer.status in (200, 206, 416):
        return answer
    reason = answer.headers.get("X-Error-Code") or answer.reason or ""
    answer.close()
    said = f"{answer.status} {reason[:80]}".rstrip()
    if answer.status in _MAY_PASS:
        raise Interrupted(f"the server answered {said}", _retry_after(answer))
    if answer.status in (401, 403):
        hint = "the credential does not permit it" if credential else "it asks for a credential, and none was given"
        raise BadInput(f"{shown}: the server answered {said}: {hint}, or there is no such thing")
    if answer.status in (404, 410):
        raise BadInput(f"{shown}: the server answered {said}: there is nothing of that name")
    raise BadInput(f"{shown}: the server answered {said}; expected the file")


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _cause(error: BaseException) -> str:
    """The innermost reason, without addresses of objects and without the URL's query."""
    text = str(error).rpartition(": ")[2] or type(error).__name__
    return text.strip("()'\" ")[:200]
