"""The gate over HTTP/1.1: reads a whole request, judges it, and sends its bytes on unchanged.

The request's head is written anew, so that nothing that two parsers read differently gets
through; the body goes on as it came.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, cast

import httptools
import orjson

from tidewaiter_runtime.http_upstream import Answer, Upstream, UpstreamFailed
from tidewaiter_runtime.input_validation.access_log import Access
from tidewaiter_runtime.input_validation.http_endpoints import endpoint
from tidewaiter_runtime.input_validation.judgement import Asked, Judge, Refused
from tidewaiter_runtime.input_validation.predictions import from_http
from tidewaiter_runtime.input_validation.rules import ModelRule
from tidewaiter_runtime.input_validation.v2_http import InferenceRequest, parse_request

_LARGEST_HEAD = 32 << 10
_NOT_SENT_ON = frozenset(
    (
        *("authorization", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
_ONCE = frozenset(("authorization", "content-encoding", "host", "inference-header-content-length"))
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUSES = {"unknown-caller": 401, "limited": 429, "rejected": 400, "too-large": 413, "blocked": 403, "busy": 503}
_VERSION = re.compile(rb'"model_version":\s*"(\d{1,19})"')
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds that a client may take, how many may be connected, and what bodies of all of them may take in memory."""

    read_s: float = 10.0
    idle_s: float = 75.0
    connections: int = 1024
    buffered_bytes: int = 512 << 20


class HttpGate:
    """One listener; ``connect`` makes the protocol of a connection."""

    def __init__(self, judge: Judge, upstream: Upstream, limits: HttpLimits) -> None:
        self.judge = judge
        self.upstream = upstream
        self.limits = limits
        self.connections: set[_Connection] = set()
        self.draining = False
        self.buffered = 0
        """Bytes of bodies that are held now."""
        self.idle = asyncio.Event()
        """Set while nobody is connected."""
        self.idle.set()

    def connected(self, one: _Connection) -> None:
        """A connection has begun."""
        self.connections.add(one)
        self.idle.clear()

    def disconnected(self, one: _Connection) -> None:
        """A connection has ended."""
        self.connections.discard(one)
        if not self.connections:
            self.idle.set()

    def connect(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        return _Connection(self)

    def drain(self) -> None:
        """From now on every answer is a connection's last; idle connections are closed."""
        self.draining = True
        for one in list(self.connections):
            one.close_if_idle()


class _Connection(asyncio.Protocol):
    def __init__(self, gate: HttpGate) -> None:
        self._gate = gate
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queue: list[_Request] = []
        self._closing = False
        self._blocked = False
        self._peer = ""
        self._certificate = ""
        self._request = _Request()

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods and not the class
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._certificate = _certificate_name(transport.get_extra_info("ssl_object"))
        if len(self._gate.connections) >= self._gate.limits.connections:
            self._refuse_connection(503, "too many connections")
            return
        self._gate.connected(self)
        self._wait(self._gate.limits.idle_s)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._closing = True
        self._gate.disconnected(self)
        self._stop_waiting()
        for one in (self._request, *self._queue):
            self._gate.buffered -= one.size
            one.size = 0
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client does not read its answers; until it does, its next request is not served."""
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._task is None and not self._closing:
            self._stop_waiting()
            self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._request.started:
            self._request.started = time.perf_counter()
            if self._task is None:
                self._wait(self._gate.limits.read_s)
        if self._request.head_done:
            self._request.beside_body += len(data)
        else:
            self._request.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            why = error.__context__
            if not isinstance(why, Refused):
                raise
            self._refuse_connection(_STATUSES[why.verdict], str(why))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse_connection(400, "the request is not HTTP/1.1")
        else:
            self._bound_what_is_no_body()

    def _bound_what_is_no_body(self) -> None:
        if not self._request.head_done and self._request.head_bytes > _LARGEST_HEAD:
            self._refuse_connection(431, f"the request's head has more than {_LARGEST_HEAD} bytes")
        elif self._request.beside_body > _LARGEST_HEAD:
            # A trailer or a chunk's extension without an end: the parser keeps it until there is one.
            self._refuse_connection(431, f"more than {_LARGEST_HEAD} bytes came that belong to no body")

    # -- the parser's side

    def on_url(self, url: bytes) -> None:
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request.head_done:
            # The parser reads trailers as headers, and nothing limits how many there are.
            raise Refused("rejected", "headers after the body are not accepted")
        self._request.headers.append((name, value))

    def on_headers_complete(self) -> None:
        request = self._request
        request.head_done = True
        if request.head_bytes > _LARGEST_HEAD and len(b"".join(map(b"".join, request.headers))) > _LARGEST_HEAD:
            raise Refused("too-large", f"the request's head has more than {_LARGEST_HEAD} bytes")
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        length = request.header("content-length")
        if length.isdigit():
            self._bound(int(length[:20]))
        if request.header("expect").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._request.beside_body = 0
        self._request.size += len(body)
        self._gate.buffered += len(body)
        self._bound(self._request.size)
        if self._gate.buffered > self._gate.limits.buffered_bytes:
            raise Refused("busy", "too many requests are being received; try again", 1)
        self._request.parts.append(body)

    def on_message_complete(self) -> None:
        self._queue.append(self._request)
        self._request = _Request()
        self._stop_waiting()
        if self._transport is not None:
            self._transport.pause_reading()
        if self._task is None:
            self._next()

    def _bound(self, size: int) -> None:
        largest = self._gate.judge.rules.largest_body
        if size > largest:
            raise Refused("too-large", f"the request has more than {largest} bytes")

    # -- answers

    def _next(self) -> None:
        request = self._queue.pop(0)
        self._task = asyncio.get_running_loop().create_task(self._serve(request))
        self._task.add_done_callback(lambda task: self._served(task, request))

    def _served(self, task: asyncio.Task[None], request: _Request) -> None:
        self._task = None
        self._gate.buffered -= request.size
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("a request could not be handled", exc_info=task.exception())
            self._refuse_connection(500, "the gate failed; its log says how")
        if self._closing:
            return
        if self._blocked:
            self._wait(self._gate.limits.idle_s)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._next()
            return
        if self._transport is None:
            return
        self._wait(self._gate.limits.read_s if self._request.started else self._gate.limits.idle_s)
        self._transport.resume_reading()

    async def _serve(self, request: _Request) -> None:
        access = Access("http", request_bytes=request.size)
        watched: tuple[ModelRule, InferenceRequest] | None = None
        try:
            answer, watched = await self._judged(request, access)
            access.verdict, access.status = ("accepted" if answer.status < 400 else "failed"), answer.status
        except Refused as why:
            answer = _error(_STATUSES[why.verdict], str(why), why.wait_s)
            access.verdict, access.reason, access.status = why.verdict, str(why), answer.status
        except UpstreamFailed as why_failed:
            answer = _error(502, str(why_failed))
            access.reason, access.status = str(why_failed), 502
        except TimeoutError:
            answer = _error(504, "the model server did not answer in time")
            access.reason, access.status = "timeout", 504
        keep = request.keep_alive and not self._gate.draining
        self._write(answer, keep=keep, head_only=request.method == "HEAD")
        access.response_bytes = len(answer.body)
        access.total_ms = (time.perf_counter() - request.started) * 1000
        version = _VERSION.search(answer.body[:1024]) if watched is not None and not access.version else None
        if version:
            access.version = version[1].decode()
        if not request.health:
            self._gate.judge.log.add(access)
        self._observe(access, watched, answer)

    async def _judged(
        self, request: _Request, access: Access
    ) -> tuple[Answer, tuple[ModelRule, InferenceRequest] | None]:
        judge = self._gate.judge
        found = endpoint(request.method, request.target.decode("latin-1"))
        request.health = found is not None and found.health
        repeated = request.repeated()
        if repeated:
            raise Refused("rejected", f"the header {repeated} is there twice")
        headers = request.named()
        if not request.health:
            judge.admit(access, Asked(headers, self._certificate, self._peer))
        if found is None:
            raise Refused("blocked", "this endpoint is not for callers; use health, metadata and infer")
        access.model, access.version = found.model, found.version
        body = b"".join(request.parts)
        watched = self._checked(headers, body, access) if found.inference else None
        access.gate_ms = (time.perf_counter() - request.started) * 1000
        sent_on = [
            (name, value) for name, value in request.headers if name.decode("latin-1").lower() not in _NOT_SENT_ON
        ]
        answer = await self._gate.upstream.ask(request.method, request.target.decode("latin-1"), sent_on, body)
        return answer, watched

    def _checked(self, headers: dict[str, str], body: bytes, access: Access) -> tuple[ModelRule, InferenceRequest]:
        judge = self._gate.judge
        rule = judge.model(access, len(body))
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused("rejected", "compressed bodies are not accepted; send the body as it is")
        length = headers.get("inference-header-content-length")
        return rule, judge.check(access, rule, lambda: parse_request(body, length))

    def _observe(self, access: Access, watched: tuple[ModelRule, InferenceRequest] | None, answer: Answer) -> None:
        judge = self._gate.judge
        if watched is None:
            if access.verdict != "accepted":
                judge.observe(access)
            return
        rule, request = watched
        prediction: list[float] = []
        if answer.status == 200 and rule.prediction and judge.observations.chosen(rule):
            prediction = _prediction(answer, rule.prediction)
        judge.observe(access, request, prediction)

    def _write(self, answer: Answer, *, keep: bool, head_only: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}\r\n".encode()]
        lines += [b"%b: %b\r\n" % header for header in answer.headers]
        lines.append(b"Content-Length: %d\r\n" % len(answer.body))
        lines.append(b"\r\n" if keep else b"Connection: close\r\n\r\n")
        if not head_only:
            lines.append(answer.body)
        self._transport.writelines(lines)
        if not keep:
            self._closing = True
            self._transport.close()

    def _refuse_connection(self, status: int, reason: str) -> None:
        self._stop_waiting()
        self._gate.judge.log.add(
            Access("http", caller=self._peer, verdict="rejected", status=status, reason=reason[:200])
        )
        self._write(_error(status, reason), keep=False)
        self._closing = True

    def close_if_idle(self) -> None:
        if self._task is None and not self._request.started and self._transport is not None:
            self._closing = True
            self._transport.close()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._blocked and self._transport is not None:
            self._closing = True
            self._transport.abort()
        elif self._request.started:
            self._refuse_connection(408, f"the request took more than {self._gate.limits.read_s:g} s to arrive")
        elif self._transport is not None:
            self._closing = True
            self._transport.close()


class _Request:
    """One request as it arrives."""

    __slots__ = (
        *("beside_body", "head_bytes", "head_done", "headers", "health", "keep_alive"),
        *("method", "parts", "size", "started", "target"),
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.size = 0
        self.beside_body = 0
        self.head_bytes = 0
        self.head_done = False
        self.keep_alive = True
        self.health = False
        self.started = 0.0

    def header(self, wanted: str) -> str:
        return next((value.decode("latin-1") for name, value in self.headers if _lower(name) == wanted), "")

    def named(self) -> dict[str, str]:
        return {_lower(name): value.decode("latin-1") for name, value in self.headers}

    def repeated(self) -> str:
        names = [_lower(name) for name, _ in self.headers]
        return next((one for one in names if names.count(one) > 1), "") if len(set(names)) < len(names) else ""


def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _error(status: int, reason: str, wait_s: float = 0.0) -> Answer:
    headers = [(b"Content-Type", b"application/json")]
    if wait_s:
        headers.append((b"Retry-After", b"%d" % max(1, round(wait_s + 0.5))))
    if status == 401:
        headers.append((b"WWW-Authenticate", b"Bearer"))
    return Answer(status, headers, orjson.dumps({"error": reason}))


def _prediction(answer: Answer, output: str) -> list[float]:
    """The first element of one output of each row, where the answer has it as JSON or binary FP32/FP64."""
    length = next((value for name, value in answer.headers if _lower(name) == "inference-header-content-length"), b"")
    return from_http(answer.body, int(length) if length.isdigit() else None, output)


def _certificate_name(tls: Any) -> str:
    """The URI (as SPIFFE has it), DNS name or common name of the client's certificate."""
    if not isinstance(tls, ssl.SSLObject) and not hasattr(tls, "getpeercert"):
        return ""
    found = tls.getpeercert() or {}
    names = dict(reversed(found.get("subjectAltName", ())))
    subject = {key: value for part in found.get("subject", ()) for key, value in part}
    return str(names.get("URI") or names.get("DNS") or subject.get("commonName") or "")
